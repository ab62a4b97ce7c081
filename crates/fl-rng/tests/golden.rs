//! Draws of every purpose, pinned: models and fault plans of earlier runs depend on them.
//!
//! The values were taken from the five generators that this crate replaced, before it replaced them.

use fl_rng::{Decision, Lane, Pcg32, Purpose, Xorshift32, derive_seed, fraction, link_lane};

fn order(mut rng: Pcg32) -> [u32; 10] {
    let mut order = core::array::from_fn(|i| i as u32);
    rng.shuffle(&mut order);
    order
}

#[test]
fn streams_of_pcg32() {
    let words = |purpose, seed| -> [u32; 4] {
        let mut rng = Pcg32::new(purpose, seed);
        core::array::from_fn(|_| rng.next_u32())
    };
    assert_eq!(
        words(Purpose::InitialWeights, 1),
        [0xe239_3051, 0x0111_2f35, 0xd350_9d35, 0x0b93_2f4a]
    );
    assert_eq!(
        words(Purpose::ExampleOrder, 158),
        [0x29f8_b8ab, 0xf12f_d514, 0x8fda_f1ca, 0x5d26_b3f0]
    );
    assert_eq!(
        words(Purpose::IidPartition, 42),
        [0x9255_0354, 0x2add_5537, 0x23e0_aec4, 0x920e_d06a]
    );
    assert_eq!(
        words(Purpose::Cohort, 7),
        [0xfdb3_a233, 0xf8e5_ffc8, 0x8c74_193e, 0x4da1_e8e3]
    );
    let mut rng = Pcg32::new(Purpose::InitialWeights, 1);
    assert_eq!(
        core::array::from_fn(|_| rng.symmetric()),
        [0.7673702, -0.9916631, 0.6508976, -0.9095708]
    );
}

#[test]
fn orders_of_a_cohort_and_of_examples() {
    let cohort = Pcg32::for_round(Purpose::Cohort, 1, 3);
    assert_eq!(order(cohort), [6, 7, 8, 1, 5, 4, 2, 9, 0, 3]);
    let examples = Pcg32::new(Purpose::ExampleOrder, derive_seed(1, 2, 3));
    assert_eq!(order(examples), [5, 7, 8, 2, 9, 1, 3, 6, 4, 0]);
}

#[test]
fn seeds_of_clients() {
    assert_eq!(derive_seed(0, 0, 0), 0xa706_dd2f_4d19_7e6f);
    assert_eq!(derive_seed(1, 2, 3), 0x7035_435f_94b9_9176);
    assert_eq!(
        derive_seed(u64::MAX, u32::MAX, u32::MAX),
        0x6309_143e_67a4_7936
    );
}

#[test]
fn decisions_about_faults() {
    let words = [
        (Decision::DropOut, 0x8f9d_e08f_8be3_fc51),
        (Decision::Crash, 0x28d6_c93e_f120_4789),
        (Decision::OutOfMemory, 0x8118_7fed_25f6_640b),
        (Decision::Corrupt, 0x93eb_d803_9385_8de8),
        (Decision::Freeze, 0x235b_9a2d_77be_b0cb),
        (Decision::Cut, 0xa0a2_9fe2_6bb3_0bce),
    ];
    for (decision, word) in words {
        assert_eq!(decision.word(7, 3, 5), word, "{decision:?}");
    }
    let last = Decision::Cut.word(u64::MAX, u32::MAX, u32::MAX);
    assert_eq!(last, 0x20cd_2050_7d33_efb5);
    assert_eq!(
        fraction(Decision::DropOut.word(7, 3, 5)),
        0.5610027647452539
    );
}

#[test]
fn fates_of_frames() {
    let up = Lane::new(7, link_lane(3, false));
    assert_eq!(
        [0, 1, 2, 3, 8].map(|index| fraction(up.word(index))),
        [
            0.4811421696479633,
            0.14928443097538124,
            0.5093309523631079,
            0.07486538475564508,
            0.45653461933986295
        ]
    );
    assert_eq!(up.word(4), 1_435_218_355_008_383_039);
    let down = Lane::new(u64::MAX, link_lane(u32::MAX, true));
    assert_eq!(fraction(down.word(0)), 0.32244040104483584);
    assert_eq!(down.word(12), 13_221_767_600_296_033_869);
}

#[test]
fn jitter_of_the_back_off() {
    let waits = |seed| {
        let mut random = Xorshift32::new(seed);
        [100_000, 200_000, 400_000, 800_000, 1_600_000, 3_200_000]
            .map(|step: u32| step / 2 + random.next_u32() % (step / 2))
    };
    assert_eq!(
        waits(0),
        [70_369, 134_689, 235_461, 799_695, 1_089_233, 3_095_504]
    );
    assert_eq!(
        waits(8080),
        [68_232, 126_883, 216_827, 597_918, 1_392_147, 2_173_452]
    );
}
