//! Setting keys of an experiment that is a table.

use crate::file::{Setting, groups};
use toml::{Table, Value};

/// The experiment with these keys set. A rule that is named starts from its defaults, unless it is the one that
/// the experiment has.
///
/// # Errors
/// The key that cannot be set.
pub(crate) fn with(base: &Table, values: &Setting) -> Result<Table, String> {
    let mut table = base.clone();
    // Names come before the parameters beside them.
    let (names, others): (Vec<_>, Vec<_>) =
        values.iter().partition(|(key, _)| key.ends_with(".name"));
    for (key, value) in names.into_iter().chain(others) {
        set(&mut table, key, value).ok_or(key)?;
    }
    Ok(table)
}

fn set(table: &mut Table, key: &str, value: &Value) -> Option<()> {
    let Some(of_fleet) = key.strip_prefix("fleet.") else {
        return set_in(table, key, value);
    };
    let groups = groups(table);
    let is_of = |group: &&String| {
        of_fleet
            .strip_prefix(group.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let at = groups.iter().position(|group| is_of(&group))?;
    let key = &of_fleet[groups[at].len() + 1..];
    let group = table.get_mut("fleet")?.as_array_mut()?.get_mut(at)?;
    set_in(group.as_table_mut()?, key, value)
}

fn set_in(table: &mut Table, key: &str, value: &Value) -> Option<()> {
    let Some((first, rest)) = key.split_once('.') else {
        if key == "name" && table.get("name") != Some(value) {
            table.clear();
        }
        table.insert(key.to_owned(), value.clone());
        return Some(());
    };
    let inner = table.entry(first).or_insert_with(|| Table::new().into());
    // A rule may stand as its name alone.
    if let Value::String(name) = inner {
        let name = Value::String(std::mem::take(name));
        *inner = Table::from_iter([("name".to_owned(), name)]).into();
    }
    set_in(inner.as_table_mut()?, rest, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(base: &str, key: &str, value: &str) -> Table {
        let value: Table = toml::from_str(&format!("x = {value}")).unwrap();
        let values = Setting::from([(key.to_owned(), value["x"].clone())]);
        with(&toml::from_str(base).unwrap(), &values).unwrap()
    }

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_key_is_set_as_if_it_stood_in_the_file() {
        assert_eq!(set("seed = 1", "seed", "2"), table("seed = 2"));
        assert_eq!(
            set("", "faults.crash.probability", "0.5"),
            table("faults.crash.probability = 0.5")
        );
        let fleet = "[[fleet]]\ncount = 3\n[[fleet]]\nname = \"b\"\ncount = 1";
        let other = "[[fleet]]\ncount = 3\n[[fleet]]\nname = \"b\"\ncount = 2";
        assert_eq!(set(fleet, "fleet.b.count", "2"), table(other));
        let other = "[[fleet]]\ncount = 7\n[[fleet]]\nname = \"b\"\ncount = 1";
        assert_eq!(set(fleet, "fleet.group-1.count", "7"), table(other));
    }

    #[test]
    fn another_rule_starts_from_its_defaults_and_the_same_keeps_its_parameters() {
        let base = "[strategy]\nname = \"fedprox\"\nproximal_mu = 1";
        assert_eq!(
            set(base, "strategy.name", "'fedavg'"),
            table("strategy.name = 'fedavg'")
        );
        assert_eq!(set(base, "strategy.name", "'fedprox'"), table(base));
        let short = "strategy = 'fedprox'";
        assert_eq!(set(short, "strategy.proximal_mu", "1"), table(base));
    }
}
