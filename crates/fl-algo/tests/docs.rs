//! The tables of docs/algorithms.md, which are made of the lists of algorithms and attacks.

use fl_algo::*;
use fl_nn::Shape;
use std::fmt::Write as _;
use std::fs;

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/algorithms.md");

/// A model whose layers are all of some size: what is counted in models is not sensitive to it.
fn sizes() -> Sizes {
    Sizes::from(&Shape::new(&[784, 128, 256, 10]).unwrap())
}

/// `name` with its default, or a dash.
fn parameters(specs: &[ParamSpec]) -> String {
    let each = specs.iter().map(|spec| {
        let ParamSpec { name, default, .. } = spec;
        format!("`{name}` {default}")
    });
    let each: Vec<_> = each.collect();
    if each.is_empty() {
        "–".into()
    } else {
        each.join(", ")
    }
}

/// A number of models: whole, or by how it compares.
fn models(numbers: usize) -> String {
    let whole = sizes().num_params;
    match (numbers / whole, numbers % whole) {
        (0, 0) => "0".into(),
        (0, few) if few < whole / 100 => format!("{few} numbers"),
        (0, _) => "< 1".into(),
        // A few numbers beside whole vectors are not worth a word.
        (count, few) if few < whole / 100 => count.to_string(),
        (count, _) => format!("> {count}"),
    }
}

/// Amount by default and, if that is something else, with a parameter that is not 0.
fn with_parameters(half: &DeviceHalf, of: impl Fn(&Params) -> String) -> String {
    let usual = Params::defaults(half.params);
    let mut text = of(&usual);
    for spec in half.params {
        let mut other = usual;
        other.set(spec.name, spec.max).unwrap();
        let found = of(&other);
        if found != of(&usual) && usual.get(spec.name) == 0.0 {
            let _ = write!(text, "; {found} with `{}`", spec.name);
        }
    }
    text
}

fn memory(half: &DeviceHalf) -> String {
    with_parameters(half, |params| {
        let vectors = half.client.vectors(params).iter();
        models(vectors.map(|spec| spec.length.of(&sizes())).sum())
    })
}

fn traffic(half: &DeviceHalf) -> String {
    with_parameters(half, |params| {
        let way = |way| {
            let sections = half.sections(params, way, &sizes());
            models(sections.map(|section| section.count).sum())
        };
        format!("{} / {}", way(Way::Down), way(Way::Up))
    })
}

fn link(paper: &str) -> String {
    let (title, address) = paper
        .split_once(", https://")
        .expect("a title and an address");
    format!("[{title}](https://{address})")
}

/// Whatever an edge can do for an algorithm.
fn at_edges(name: &str) -> &'static str {
    let rule = Choice::named(name).unwrap().server(sizes(), 10, 10, 1);
    let rule = rule.unwrap();
    match (rule.adds_up(), rule.takes_the_mean()) {
        (false, _) => "no",
        (true, false) => "sums",
        (true, true) => "sums, rounds",
    }
}

fn algorithms() -> String {
    let mut table = "\
| name | what it is | server parameters | device parameters | device half | RAM | down / up | at edges | paper |
|---|---|---|---|---|---|---|---|---|
"
    .to_owned();
    for Algorithm {
        name,
        doc,
        paper,
        device,
        params,
        ..
    } in ALGORITHMS
    {
        let half = match device.rule {
            "fedavg" => "plain".to_owned(),
            rule => format!("`{rule}`"),
        };
        let _ = writeln!(
            table,
            "| `{name}` | {doc} | {} | {} | {half} | {} | {} | {} | {} |",
            parameters(params),
            parameters(device.params),
            memory(device),
            traffic(device),
            at_edges(name),
            link(paper)
        );
    }
    table
}

fn bounds() -> String {
    let mut table = "| parameter | of | from | to | meaning |\n|---|---|---|---|---|\n".to_owned();
    let mut line = |of: &str, spec: &ParamSpec| {
        let ParamSpec {
            name,
            min,
            max,
            doc,
            ..
        } = spec;
        let _ = writeln!(table, "| `{name}` | {of} | {min} | {max} | {doc} |");
    };
    for algorithm in ALGORITHMS {
        let specs = algorithm.params.iter().chain(algorithm.device.params);
        specs.for_each(|spec| line(&format!("`{}`", algorithm.name), spec));
    }
    for attack in ATTACKS {
        let of = format!("`{}`", attack.name());
        attack.params().iter().for_each(|spec| line(&of, spec));
    }
    table
}

fn attacks() -> String {
    let mut table = "| name | what it does | parameters | paper |\n|---|---|---|---|\n".to_owned();
    for attack in ATTACKS {
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            attack.name(),
            attack.doc(),
            parameters(attack.params()),
            link(attack.paper())
        );
    }
    table
}

/// Holds the table between two marks against what it is to be, or puts it there.
fn check(mark: &str, table: &str) {
    let page = fs::read_to_string(DOC).unwrap();
    let begin = format!("<!-- {mark} -->\n");
    let (before, rest) = page.split_once(&begin).expect("the page has a mark");
    let (found, after) = rest
        .split_once("<!-- end -->")
        .expect("the table has an end");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(DOC, format!("{before}{begin}{table}<!-- end -->{after}")).unwrap();
        return;
    }
    let what = "docs/algorithms.md is behind; put it right with UPDATE_EXPECT=1 cargo test -p fl-algo --test docs";
    assert!(found == table, "{what}\n{table}");
}

/// `UPDATE_EXPECT=1 cargo test -p fl-algo --test docs` puts them there.
#[test]
fn the_page_has_the_tables_of_algorithms_attacks_and_bounds() {
    check("algorithms", &algorithms());
    check("attacks", &attacks());
    check("bounds", &bounds());
}
