//! Data sets in CSV: what is read, and what is refused with its line and column.

use fl_data::{Loaded, load, load_text};
use std::fs;

const ROWS: &str = "client,x,label\n\
    anna,1.5,up\nanna,-2,down\nbert,0,up\nbert,1e3,down\n\
    anna,1,up\nanna,1,up\nanna,1,up\nanna,1,up\n";

fn refused(text: &str) -> String {
    load_text(text).unwrap_err().to_string()
}

fn loaded(file: &str, content: &[u8]) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file);
    fs::write(&path, content).unwrap();
    load(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn columns_are_found_by_their_names() {
    let table = load_text(ROWS).unwrap();
    assert_eq!((table.splits.train.len(), table.splits.test.len()), (7, 1));
    assert_eq!(table.splits.train.num_inputs, 2);
    let scaling = table.scaling.unwrap();
    assert_eq!(scaling.classes, ["down", "up"]);
    assert_eq!(scaling.columns[0].name, "x");
    let natural = table.natural.unwrap();
    assert_eq!(natural.names, ["anna", "bert"]);
    assert_eq!(natural.parts, [vec![0, 1, 4, 5, 6], vec![2, 3]]);
}

#[test]
fn other_delimiters_quotes_capitals_and_gzip_are_read() {
    let plain = load_text(ROWS).unwrap();
    for (file, text) in [
        ("a.csv", ROWS.replace(',', ";")),
        ("a.tsv", ROWS.replace(',', "\t")),
        ("a.CSV", ROWS.replace(",label", ",Label")),
        ("a.csv", ROWS.replace("1.5", "\" 1.5 \"")),
        ("a.csv", format!("\u{feff}{}", ROWS.replace('\n', "\r\n"))),
    ] {
        assert_eq!(loaded(file, text.as_bytes()), plain, "{text:?}");
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, ROWS.as_bytes()).unwrap();
    assert_eq!(loaded("a.csv.gz", &packed.finish().unwrap()), plain);
}

#[test]
fn a_column_or_a_file_says_which_examples_are_for_testing() {
    let text = "x,split,label\n1,train,0\n2,Test,1\n3,train,1\n";
    let by_column = load_text(text).unwrap();
    assert_eq!(
        (by_column.splits.train.len(), by_column.splits.test.len()),
        (2, 1)
    );
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.csv"), "x,label\n1,0\n3,1\n").unwrap();
    let said = load(dir.path()).unwrap_err().to_string();
    assert!(said.contains("test.csv: the file is missing"), "{said}");
    fs::write(dir.path().join("test.csv"), "x,label\n2,1\n").unwrap();
    assert_eq!(load(dir.path()).unwrap().splits, by_column.splits);
    assert_eq!(fl_data::files(dir.path()).len(), 2);
    fs::write(dir.path().join("test.csv"), "y,label\n2,1\n").unwrap();
    let said = load(dir.path()).unwrap_err().to_string();
    assert!(said.contains("test.csv: its columns are others"), "{said}");
    fs::write(dir.path().join("test.csv"), "x,label\n2,1\nnan,1\n").unwrap();
    let said = load(dir.path()).unwrap_err().to_string();
    assert!(
        said.contains("test.csv: line 3: column `x`: `nan` is no finite"),
        "{said}"
    );
}

#[test]
fn what_is_no_number_is_refused_with_its_line_and_column() {
    for (cell, shown) in [
        ("nan", "nan"),
        ("inf", "inf"),
        ("", ""),
        ("1,5", ""),
        ("1e999", "1e999"),
    ] {
        let text = format!("x,label\n1,0\n{cell},1\n");
        let said = refused(&text);
        if cell == "1,5" {
            assert!(
                said.contains("line 3: it has 3 columns, the first line 2"),
                "{said}"
            );
        } else {
            let problem = format!("line 3: column `x`: `{shown}` is no finite number; ");
            assert!(said.starts_with(&problem), "{said}");
        }
    }
}

#[test]
fn tables_that_cannot_be_used_say_why() {
    for (text, why) in [
        ("", "no column `label`"),
        ("x,y\n1,2\n", "no column `label`"),
        ("label\n1\n", "no column of features"),
        ("x,label\n", "it holds no example"),
        ("x,label\n1,\n", "line 2: column `label` is empty"),
        ("x,client,label\n1,,0\n", "line 2: column `client` is empty"),
        (
            "x,split,label\n1,maybe,0\n",
            "`maybe` is neither train nor test",
        ),
        ("x,split,label\n1,train,0\n", "no example for testing"),
        ("x,split,label\n1,test,0\n", "no example for training"),
        ("x,label\n1,a\n2,a\n3,a\n4,a\n5,a\n", "with one class only"),
    ] {
        let said = refused(text);
        assert!(said.contains(why), "{text:?}: {said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, b"x,label\n1,0\n\xff,1\n").unwrap();
    let said = load(&path).unwrap_err().to_string();
    assert!(said.contains("line 3") && said.contains("UTF-8"), "{said}");
    fs::write(&path, b"PK\x03\x04").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("unzip"));
}
