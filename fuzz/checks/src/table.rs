//! Data sets in CSV.

use crate::Verdict;

pub(crate) fn check(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let loaded = fl_data::load_text(text);
    if let Ok(table) = &loaded {
        let scaling = table.scaling.as_ref().expect("a table tells its scales");
        for half in [&table.splits.train, &table.splits.test] {
            assert!(!half.is_empty());
            assert_eq!(half.inputs.len(), half.len() * half.num_inputs);
            assert_eq!(half.num_classes, scaling.classes.len());
            let in_range = |label: &u8| usize::from(*label) < half.num_classes;
            assert!(half.labels.iter().all(in_range));
        }
        for column in &scaling.columns {
            assert!(column.offset.is_finite() && column.step.is_finite() && column.step > 0.0);
        }
        let natural = table.natural.iter().flat_map(|natural| &natural.parts);
        let mut dealt: Vec<u32> = natural.flatten().copied().collect();
        dealt.sort_unstable();
        let train = table.splits.train.len() as u32;
        assert!(dealt.is_empty() || dealt.into_iter().eq(0..train));
        assert_eq!(
            fl_data::load_text(text).as_ref().ok(),
            Some(table),
            "a second time"
        );
    }
    Verdict::of(&loaded)
}
