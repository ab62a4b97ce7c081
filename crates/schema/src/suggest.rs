//! Suggestions for names that are unknown.

/// The name that is meant, if one is near.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    // A third of a word may be wrong; what is further away is another word.
    let most = unknown.chars().count().div_ceil(3).max(1);
    let near = known.iter().map(|name| (distance(unknown, name), *name));
    let nearest = near.filter(|(distance, _)| *distance <= most).min();
    nearest.map(|(_, name)| name)
}

/// Levenshtein's distance, in which exchanging two neighbours counts as one step (optimal string alignment).
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let mut rows = vec![vec![0; two.len() + 1]; one.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=two.len()).collect();
    for i in 1..=one.len() {
        for j in 1..=two.len() {
            let other = usize::from(one[i - 1] != two[j - 1]);
            let mut steps = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + other);
            if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                steps = steps.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = steps;
        }
    }
    rows[one.len()][two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested_and_no_distant_one() {
        let known = ["rounds", "round_deadline_s", "seed", "body", "board"];
        for (unknown, meant) in [
            ("round", "rounds"),
            ("round_deadlines", "round_deadline_s"),
            ("sede", "seed"),
            ("bord", "board"),
        ] {
            assert_eq!(nearest(unknown, &known), Some(meant));
        }
        assert_eq!(nearest("temperature", &known), None);
    }

    #[test]
    fn distances_are_steps_of_one_letter() {
        for (one, two, steps) in [("", "ab", 2), ("abc", "acb", 1), ("kitten", "sitting", 3)] {
            assert_eq!((distance(one, two), distance(two, one)), (steps, steps));
        }
    }
}
