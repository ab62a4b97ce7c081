//! The octets of a batch by columns: the examples in which two neighbouring inputs are not zero.
//!
//! A list of an example ([`super::sparse`]) needs all sums of the gradient at hand, and loads and stores them; a list
//! of a column has its sums in registers. An emulator pays for each eight bytes that it loads. The lists take about as
//! much memory as those of the examples: only where the caller brings it, and where [`super::product`] has the loop.
//!
//! An entry is an `i32`: in the upper half the place of the example's deltas, times [`STEP`]; the octets in the lower.

use bytemuck::{cast, cast_slice_mut};
use wide::i32x8;

use super::product::{BIAS, Deltas, STEP, column_sums, count, deal, excess};
use super::quantise::{LANES, Pair, load};
use crate::examples::Examples;

/// Most examples of a batch: their places fit half of an entry.
const MOST: usize = (1 << 16) / STEP;

/// Least examples of a batch: with fewer, an emulator takes longer to sort them than rows take to sum. Tests have
/// small ones.
const LEAST: usize = if cfg!(test) { 1 } else { 40 };

/// Most entries of a batch: their places in bytes fit an `i32`.
const MOST_ENTRIES: usize = 1 << 28;

/// Words under the deltas of one example and tile.
const DELTA_WORDS: usize = LANES / 2;

/// Words of a column beside its entries: its end, and the excess of its two inputs.
const COLUMN_WORDS: usize = 3;

/// Buffers, cut from words of the caller.
pub(crate) struct Columns<'a> {
    /// Tile after tile the integers of all examples, whose number is made a power of two.
    deltas: &'a mut [Deltas],
    slots: usize,
    /// The [`excess`] of each column.
    excess: &'a mut [[i32; 2]],
    /// The ends of so many columns, in bytes from the first of these words; then entries, and a word that is only read.
    words: &'a mut [i32],
    len: usize,
}

/// Words for a batch with so many entries; `None` if it is too large, or too small to be worth it.
pub(crate) fn words(inputs: usize, width: usize, batch: usize, entries: usize) -> Option<usize> {
    let slots = batch.next_power_of_two();
    let deltas = slots * width.div_ceil(LANES) * DELTA_WORDS;
    (batch >= LEAST && slots <= MOST)
        .then(|| deltas + COLUMN_WORDS * inputs.div_ceil(2) + entries + 1)
}

impl<'a> Columns<'a> {
    /// Cuts `words`; `None` if they are too few for any entry.
    pub fn cut(words: &'a mut [i32], inputs: usize, width: usize, batch: usize) -> Option<Self> {
        let (slots, len) = (batch.next_power_of_two(), inputs.div_ceil(2));
        if words.len() < self::words(inputs, width, batch, 0)? {
            return None;
        }
        let (deltas, words) = words.split_at_mut(slots * width.div_ceil(LANES) * DELTA_WORDS);
        let (excess, words) = words.split_at_mut(2 * len);
        Some(Self {
            deltas: cast_slice_mut(deltas),
            slots,
            excess: cast_slice_mut(excess),
            words,
            len,
        })
    }

    /// Writes the columns of a batch, whose examples have their numbers as places or else their positions; false, with
    /// nothing of worth in them, if there is no room.
    pub fn fill(
        &mut self,
        examples: &Examples<'_>,
        order: &[u32],
        by_number: bool,
        scratch: &mut [i32],
    ) -> bool {
        let (ends, entries) = self.words.split_at_mut(self.len);
        ends.fill(0);
        let mut room = entries.len().saturating_sub(1).min(MOST_ENTRIES);
        for &n in order {
            let list = examples.list(n, scratch);
            // So the counts stay below the room, whatever the lists are.
            match room.checked_sub(list.len()) {
                Some(left) if count(ends, list) => room = left,
                _ => return false,
            }
        }
        // Begins; each moves on to its end below.
        let mut total = size_of_val(ends) as i32;
        for end in ends {
            (*end, total) = (total, total + *end);
        }
        for (&n, position) in order.iter().zip(0..) {
            let place: u32 = if by_number { n } else { position };
            let upper = place.wrapping_mul((STEP as u32) << 16) as i32;
            let list = examples.list(n, scratch);
            #[cfg(not(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri)))))]
            deal(self.words, list, upper);
            #[cfg(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri))))]
            #[allow(unsafe_code, reason = "what has been counted has its places")]
            // SAFETY: these very lists have been counted, and nobody can have changed them since: each entry has its
            // place at the end of its column.
            unsafe {
                deal(self.words, list, upper);
            }
        }
        for column in 0..self.len {
            if let [entries @ .., _] = self.column(column) {
                self.excess[column] = excess(entries);
            }
        }
        true
    }

    /// Entries of a column, and the word behind them.
    #[inline(always)]
    fn column(&self, column: usize) -> &[i32] {
        let end = |column: usize| self.words[column] as u32 as usize / size_of::<i32>();
        let begin = column.checked_sub(1).map_or(self.len, end);
        self.words.get(begin..=end(column)).unwrap_or(&[])
    }

    /// Keeps the integers of examples, bits of floats, at their places.
    ///
    /// # Shapes
    /// `integers`: `[places, width]`.
    pub fn keep_deltas(
        &mut self,
        integers: &[f32],
        width: usize,
        places: impl Iterator<Item = usize> + Clone,
    ) {
        let tiles = self.deltas.chunks_exact_mut(self.slots);
        for (tile, begin) in tiles.zip((0..width).step_by(LANES)) {
            for (row, place) in integers.chunks_exact(width).zip(places.clone()) {
                if let Some(kept) = tile.get_mut(place) {
                    let [low, high]: Pair = cast(load(&row[begin..width.min(begin + LANES)]));
                    let high: i32x8 = high << 16;
                    *kept = (high + low + i32x8::splat(BIAS)).to_array();
                }
            }
        }
    }

    /// Writes the sums of columns from `first` on to the tiles of a gradient, as many as there are places in `0..len`.
    pub fn sum<'s>(
        &self,
        first: usize,
        len: usize,
        tiles: impl Iterator<Item = &'s mut [[Pair; 2]]>,
    ) {
        for (deltas, tile) in self.deltas.chunks_exact(self.slots).zip(tiles) {
            for (sums, column) in tile.iter_mut().take(len).zip(first..self.len) {
                column_sums(deltas, self.column(column), self.excess[column], sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fl_rng::Pcg32;

    use crate::{
        Activation, Arithmetic, Init, Lists, Model, Optimizer, Shape, Step, TrainConfig, Trainer,
        Workspace,
    };

    /// Parameters after a training with so many integers beyond the plan, in steps of `step` examples.
    fn train(
        model: &Model,
        config: TrainConfig,
        (lists, labels): (Lists<'_>, &[u8]),
        spare: impl FnOnce(usize) -> usize,
        step: u32,
    ) -> Vec<u32> {
        let mut params = vec![0.0; model.shape().num_params()];
        model
            .init_params(Init::of(Activation::Relu), 7, &mut params)
            .unwrap();
        let mut trainer = Trainer::new(model, config, labels.len()).unwrap();
        let words = trainer.spare_words(lists.into());
        assert!(words > 0);
        let spare = spare(words);
        let plan = *trainer.plan();
        let (mut floats, mut ints) = (vec![7.0; plan.floats], vec![-7; plan.ints + spare]);
        let mut order = vec![7; plan.order];
        loop {
            let mut workspace = Workspace {
                floats: &mut floats,
                ints: &mut ints,
                order: &mut order,
            };
            let done = trainer.step(&mut params, lists, labels, &mut workspace, step);
            if done.unwrap() == Step::Done {
                return params.iter().map(|param| param.to_bits()).collect();
            }
        }
    }

    /// Batches of all examples and of some, widths of one tile and of more, every visit of the rows.
    #[test]
    fn columns_and_rows_train_the_same_model() {
        let mut rng = Pcg32::on_stream(6, 6);
        let shapes = [(10, 16), (1, 3), (21, 16), (33, 40)];
        for (inputs, width) in shapes.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
            let model = Model::new(Shape::new(&[inputs, width, 4]).unwrap(), Activation::Relu);
            let (mut words, mut starts) = (Vec::new(), vec![0]);
            let labels: Vec<u8> = (0..23).map(|n| n % 4).collect();
            for n in 0..labels.len() as u32 {
                // Every fifth is dense, and kept as octets.
                let most = if n % 5 == 0 { 1 } else { 6 };
                let octet = |_| {
                    if rng.below(most) == 0 {
                        rng.below(256) as u8
                    } else {
                        0
                    }
                };
                let input: Vec<u8> = (0..inputs).map(octet).collect();
                let begin = words.len();
                words.resize(begin + Lists::most_words(inputs), 0);
                let len = Lists::write(&input, &mut words[begin..]).unwrap();
                words.truncate(begin + len);
                starts.push(words.len() as u32);
            }
            let lists = Lists {
                words: &words,
                starts: &starts,
            };
            for (batch_size, clip_norm, optimizer) in [
                (23, None, Optimizer::Sgd),
                (9, None, Optimizer::Sgd),
                (23, Some(0.01), Optimizer::Sgd),
                (10, Some(0.01), Optimizer::Momentum { momentum: 0.5 }),
            ] {
                let config = TrainConfig {
                    local_epochs: 3,
                    batch_size,
                    learning_rate: 0.1,
                    seed: 5,
                    arithmetic: Arithmetic::Fixed,
                    optimizer,
                    weight_decay: 0.0,
                    clip_norm,
                };
                let data = (lists, &labels[..]);
                let rows = train(&model, config, data, |_| 0, 4);
                for step in [1, 5, 1000] {
                    let columns = train(&model, config, data, |words| 2 * words, step);
                    assert_eq!(columns, rows, "{inputs} {width} {batch_size}");
                }
                // Enough for some batches at most.
                for less in 1..4 {
                    let some = train(&model, config, data, |words| words - words * less / 4, 4);
                    assert_eq!(some, rows, "{inputs} {width} {batch_size}");
                }
            }
        }
    }
}
