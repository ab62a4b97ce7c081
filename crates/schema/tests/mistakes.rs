//! Mistakes in files: their places and their words.

use serde_json::{Value, json};
use zfl_schema::{Document, Mistake};

fn schema() -> Value {
    let loss = json!({"type": "number", "minimum": 0, "maximum": 1});
    let count = json!({"type": "integer", "minimum": 1, "maximum": u32::MAX});
    let body = json!({"enum": ["native", "bare"]});
    json!({
        "type": "object",
        "properties": {
            "rounds": count,
            "learning_rate": {"type": "number", "exclusiveMinimum": 0},
            "hidden": {"type": "array", "items": count},
            "body": body,
            "loss": loss,
            "name": {"type": "string"},
            "throttle": {"type": "boolean"},
            "partition": {"anyOf": [
                {"enum": ["iid", "dirichlet"]},
                {
                    "type": "object",
                    "properties": {
                        "name": {"enum": ["iid", "dirichlet"]},
                        "alpha": {"anyOf": [loss, {"type": "boolean"}]},
                    },
                    "additionalProperties": false,
                },
            ]},
            "faults": {
                "type": "object",
                "properties": {
                    "drop_out": loss,
                    "crash": {
                        "type": "object",
                        "properties": {"probability": loss, "reboot": {"type": "boolean"}},
                        "required": ["probability"],
                        "additionalProperties": false,
                    },
                },
                "additionalProperties": false,
            },
            "fleet": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"count": count, "body": body, "loss": loss},
                    "required": ["count"],
                    "additionalProperties": false,
                },
            },
        },
        "additionalProperties": false,
    })
}

fn mistake(text: &str) -> Mistake {
    let document = match Document::toml(text) {
        Ok(document) => document,
        Err(mistake) => return mistake,
    };
    let checked = document.check(&schema());
    checked.expect_err(text)
}

#[test]
fn a_mistake_has_the_place_and_the_words_of_the_file() {
    for (text, line, column, words) in [
        (
            "# one\n\nlearning_rat = 1",
            3,
            1,
            "there is no key `learning_rat` here: did you mean `learning_rate`?",
        ),
        ("body = \"bare\"\nbody_ = 1", 2, 1, "did you mean `body`?"),
        (
            "body = \"Native\"",
            1,
            8,
            "`body` is \"Native\": did you mean \"native\"? give one of \"native\", \"bare\"",
        ),
        (
            "body = 3",
            1,
            8,
            "`body` is 3: give one of \"native\", \"bare\"",
        ),
        (
            "loss = \"5%\"",
            1,
            8,
            "`loss` is \"5%\": give a number from 0 to 1, such as 0.05",
        ),
        (
            "loss = '0.5'",
            1,
            8,
            "give a number from 0 to 1, without quotes",
        ),
        ("loss = 5", 1, 8, "`loss` is 5: give a number from 0 to 1"),
        (
            "loss = nan",
            1,
            8,
            "`loss` is nan: give a number from 0 to 1",
        ),
        (
            "rounds = 2.5",
            1,
            10,
            "`rounds` is 2.5: give a whole number from 1",
        ),
        (
            "rounds = 0",
            1,
            10,
            "`rounds` is 0: give a whole number from 1",
        ),
        ("rounds = 99999999999", 1, 10, "give a whole number from 1"),
        ("rounds = 1979-05-27", 1, 10, "`rounds` is a date"),
        ("rounds = [1,\n2]", 1, 10, "`rounds` is a list"),
        ("learning_rate = -1", 1, 17, "give a number above 0"),
        ("name = 3", 1, 8, "`name` is 3: give a text in quotes"),
        (
            "throttle = \"yes\"",
            1,
            12,
            "`throttle` is \"yes\": give true or false",
        ),
        (
            "hidden = 16",
            1,
            10,
            "`hidden` is 16: give a list in brackets, each a whole number from 1",
        ),
        (
            "hidden = [20, 0]",
            1,
            15,
            "an item of `hidden` is 0: give a whole number from 1",
        ),
        (
            "partition = \"dirichle\"",
            1,
            13,
            "did you mean \"dirichlet\"?",
        ),
        (
            "[partition]\nname = \"dirichlet\"\nalfa = 1",
            3,
            1,
            "did you mean `alpha`?",
        ),
        (
            "partition = { name = \"iid\", alpha = \"x\" }",
            1,
            37,
            "`alpha` is \"x\"",
        ),
        (
            "partition.alpha = 7",
            1,
            19,
            "`alpha` is 7: give a number from 0 to 1, or true or false",
        ),
        ("[faults]\ndropout = 1", 2, 1, "did you mean `drop_out`?"),
        (
            "faults.crash.probabilty = 1",
            1,
            14,
            "did you mean `probability`?",
        ),
        (
            "faults.crash = { reboot = true }",
            1,
            16,
            "`probability` is missing in `crash`: give probability, a number from 0 to 1",
        ),
        ("faults.crash = 0.3", 1, 16, "`crash` is 0.3: give a table"),
        (
            "faults = { crash = { probability = 2 } }",
            1,
            36,
            "`probability` is 2",
        ),
        (
            "[[fleet]]\ncount = 1\n[[fleet]]\ncount = 2\nbody = \"Bare\"",
            5,
            8,
            "did you mean \"bare\"?",
        ),
        (
            "fleet = [{ count = 1 }, { cuont = 2 }]",
            1,
            27,
            "did you mean `count`?",
        ),
        (
            "[[fleet]]\ncount = 1\nrounds = 3",
            3,
            1,
            "`rounds` belongs to the top of the file, above the first [table]",
        ),
        ("drop_out = 0.3", 1, 1, "`drop_out` belongs to [faults]"),
        ("count = 3", 1, 1, "`count` belongs to [[fleet]]"),
        ("rounds = 1\r\nloss = 5\r\n", 2, 8, "`loss` is 5"),
        (
            "\"ro\\u0007unds\" = 1",
            1,
            1,
            "there is no key `ro\\u{7}unds` here",
        ),
    ] {
        let found = mistake(text);
        assert!(
            found.problem.contains(words),
            "{text:?}: no {words:?} in {found}"
        );
        assert_eq!(
            (found.line, found.column),
            (line, column),
            "{text:?}: {found}"
        );
    }
}

#[test]
fn a_group_without_a_needed_key_is_named_at_its_head() {
    let found = mistake("rounds = 1\n[[fleet]]\ncount = 1\n\n[[fleet]]\nloss = 0.5\n");
    assert!(
        found
            .problem
            .starts_with("`count` is missing in an item of `fleet`"),
        "{found}"
    );
    assert_eq!(found.line, 5, "{found}");
}

#[test]
fn no_message_has_a_type_of_the_program() {
    let texts = [
        "rounds",
        "rounds =",
        "rounds = ",
        "[faults",
        "rounds = 1\nrounds = 2",
        "= 1",
        "a = 'x",
        "x = [1,, 2]",
        "loss = 1e",
        "[[fleet]]\n[fleet]",
        "a.b = 1\na = 2",
        "loss = 0x",
        "name = \"\\q\"",
        "\u{0}",
        "faults = 1",
        "fleet = {}",
        "fleet = 1",
        "partition = []",
        "hidden = {}",
        "hidden = [[1]]",
        "name = true",
    ];
    for text in texts {
        let said = mistake(text).to_string();
        for word in [
            "struct",
            "u32",
            "f64",
            "i64",
            "usize",
            "expected a ",
            "invalid type",
            "variant",
            "Spanned",
            "sequence",
        ] {
            assert!(!said.contains(word), "{text:?}: {said}");
        }
        assert!(said.starts_with("line "), "{said}");
    }
}

#[test]
fn what_follows_the_schema_is_let_through() {
    for text in [
        "",
        "rounds = 3\nlearning_rate = 1\nhidden = []\nloss = 1e-3",
        "hidden = [1, 2,\n 3]\n[partition]\nname = \"iid\"\nalpha = true",
        "partition = \"iid\"\nfaults.crash.probability = 1",
        "rounds = 0x10\n[[fleet]]\ncount = 1_000",
    ] {
        Document::toml(text)
            .unwrap()
            .check(&schema())
            .unwrap_or_else(|mistake| panic!("{text:?}: {mistake}"));
    }
}

#[test]
fn a_mistake_that_is_found_later_has_its_place_too() {
    let text = "rounds = 1\n[[fleet]]\ncount = 1\n[[fleet]]\ncount = 2\nloss = 1\n";
    let document = Document::toml(text).unwrap();
    let at = |path: &str| {
        let found = document.mistake(path, "no");
        (found.line, found.column)
    };
    assert_eq!(at("rounds"), (1, 10));
    assert_eq!(at("fleet.1.loss"), (6, 8));
    assert_eq!(at("fleet.1.nothing").0, 4);
    assert_eq!(at("nothing.at.all"), (1, 1));
}

/// Neither recursion nor time without end.
#[test]
fn a_file_that_is_nested_too_deep_is_refused() {
    for text in [
        format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
    ] {
        let checked = Document::toml(&text).and_then(|document| document.check(&schema()));
        assert!(checked.is_err());
    }
}

#[test]
fn json_is_read_in_the_same_way() {
    let check = |text: &str| Document::json(text).and_then(|document| document.check(&schema()));
    assert_eq!(check("{\"rounds\": 3, \"loss\": 0.5}"), Ok(()));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, line, words) in [
        (
            "{\n \"rounds\": \"3\"\n}",
            2,
            "`rounds` is \"3\": give a whole number from 1, without quotes",
        ),
        ("{\n\n \"round\": 3\n}", 3, "did you mean `rounds`?"),
        ("[]", 1, "the file is []: give a table"),
        ("{\"fleet\": [\n {\"count\": 0}]}", 2, "`count` is 0"),
        ("{\"fleet\": null}", 1, "`fleet` is null"),
        ("{\n\"rounds\": 3,\n}", 3, "this is no JSON"),
        ("", 1, "this is no JSON"),
        (&deep, 1, "the file is"),
    ] {
        let found = check(text).unwrap_err();
        assert!(found.problem.contains(words), "{found}");
        assert_eq!(found.line, line, "{found}");
    }
}
