//! Matrices rounded to integers ([`crate::kernels::quantise`]), which weights stay from batch to batch.
//!
//! Units hang on the largest magnitude and on the sum of the magnitudes of a column. A batch moves both by no more
//! than its deltas say, so that a column is looked at again only when the bounds no longer settle its unit, and a
//! row is rounded again only when it was moved.

use core::mem;

use super::pairs::Line;
use super::simd::{COLUMNS, Kernels, RoundedRows, Source, TOGETHER};
use crate::error::TrainError;
use crate::kernels::quantise::{power_of_two, unit_exponent};

/// A matrix in integers, and what its columns were found to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounded {
    lines: Vec<Line>,
    /// Lines that are of the matrix.
    num_lines: usize,
    /// Worth of one, times the factor, and what a number is scaled by, of each column.
    units: Vec<f32>,
    scales: Vec<f32>,
    /// Largest magnitude and sum of magnitudes of each column, in the order of the rows.
    max: Vec<f32>,
    sum: Vec<f32>,
    /// By how much either may move before the unit may be another.
    max_room: Vec<f32>,
    sum_room: Vec<f32>,
    /// The most by which either may have moved since.
    max_drift: Vec<f32>,
    sum_drift: Vec<f32>,
    /// Tiles that are looked at again.
    changed: Vec<usize>,
    /// The integers are those of the rows, unless a unit is another now.
    is_followed: bool,
}

impl Rounded {
    /// Integers, and the worth of one in each column.
    pub fn get(&self) -> (&[Line], &[f32]) {
        (&self.lines[..self.num_lines], &self.units)
    }

    /// Rounds a matrix, whose units are worth `factor` times as much.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if a number or the sum of a column is not finite.
    pub fn round(
        &mut self,
        kernels: &Kernels,
        matrix: Source<'_>,
        factor: f32,
    ) -> Result<(), TrainError> {
        self.round_all(kernels, matrix, factor, false)
    }

    /// [`Rounded::round`], with what is needed to follow the matrix.
    fn round_all(
        &mut self,
        kernels: &Kernels,
        matrix: Source<'_>,
        factor: f32,
        follows: bool,
    ) -> Result<(), TrainError> {
        let width = matrix.width;
        self.is_followed = false;
        self.num_lines = matrix.pairs() * width.div_ceil(COLUMNS);
        // Grows alone: what was there is written over.
        if self.lines.len() < self.num_lines {
            self.lines.resize(self.num_lines, Line::default());
        }
        self.units.resize(width, 0.0);
        self.scales.resize(width.next_multiple_of(COLUMNS), 1.0);
        for numbers in [
            &mut self.max,
            &mut self.sum,
            &mut self.max_room,
            &mut self.sum_room,
            &mut self.max_drift,
            &mut self.sum_drift,
        ] {
            numbers.resize(width, 0.0);
        }
        self.changed.clear();
        self.changed.extend(0..width.div_ceil(COLUMNS));
        self.round_tiles(kernels, matrix, factor, true, follows)
    }

    /// [`Rounded::round`] of weights whose moves since the last call were followed, if they were.
    ///
    /// # Errors
    /// As [`Rounded::round`].
    pub fn follow(
        &mut self,
        kernels: &Kernels,
        matrix: Source<'_>,
        factor: f32,
    ) -> Result<(), TrainError> {
        if !self.is_followed {
            return self.round_all(kernels, matrix, factor, true);
        }
        self.is_followed = false;
        let width = matrix.width;
        let mut unsettled = mem::take(&mut self.changed);
        let within = |drifts: &[f32], room: &[f32], tile: usize| {
            let columns = tile * COLUMNS..width.min((tile + 1) * COLUMNS);
            let pairs = drifts[columns.clone()].iter().zip(&room[columns]);
            pairs.fold(true, |all, (drift, room)| all & (drift <= room))
        };
        let is_settled = |tile: &usize| {
            within(&self.max_drift, &self.max_room, *tile)
                && within(&self.sum_drift, &self.sum_room, *tile)
        };
        unsettled.clear();
        unsettled.extend((0..width.div_ceil(COLUMNS)).filter(|tile| !is_settled(tile)));
        self.changed = unsettled;
        self.round_tiles(kernels, matrix, factor, false, true)
    }

    /// Finds the units of the tiles that changed, and rounds all of them, or those whose units are others now.
    fn round_tiles(
        &mut self,
        kernels: &Kernels,
        matrix: Source<'_>,
        factor: f32,
        all: bool,
        follows: bool,
    ) -> Result<(), TrainError> {
        for tiles in self.changed.chunks(TOGETHER / COLUMNS) {
            let (max, sum) = (kernels.column_bounds)(matrix, tiles);
            let bounds = max.chunks(COLUMNS).zip(sum.chunks(COLUMNS));
            for (&tile, (max, sum)) in tiles.iter().zip(bounds) {
                let columns = tile * COLUMNS..matrix.width.min((tile + 1) * COLUMNS);
                let mut differs = all;
                for ((column, &max), &sum) in columns.clone().zip(max).zip(sum) {
                    let exponent = unit_exponent(max, sum)?;
                    let scale = power_of_two(254 - exponent);
                    differs |= self.scales[column] != scale;
                    self.scales[column] = scale;
                    self.units[column] = power_of_two(exponent) * factor;
                    if !follows {
                        continue;
                    }
                    (self.max[column], self.sum[column]) = (max, sum);
                    [self.max_room[column], self.sum_room[column]] =
                        room(exponent, max, sum, 2 * matrix.pairs());
                    (self.max_drift[column], self.sum_drift[column]) = (0.0, 0.0);
                }
                if differs && !all {
                    let lines = &mut self.lines[..self.num_lines];
                    (kernels.round)(matrix, 0..matrix.pairs(), columns, &self.scales, lines, 0);
                }
            }
            if all {
                let columns =
                    tiles[0] * COLUMNS..matrix.width.min((tiles[0] + tiles.len()) * COLUMNS);
                let lines = &mut self.lines[..self.num_lines];
                (kernels.round)(matrix, 0..matrix.pairs(), columns, &self.scales, lines, 0);
            }
        }
        Ok(())
    }

    /// The rows from pair `first` on, to be rounded again as they move.
    pub fn rows(&mut self, first: usize) -> RoundedRows<'_> {
        RoundedRows {
            lines: &mut self.lines[..self.num_lines],
            scales: &self.scales,
            first,
        }
    }

    /// Follows the moves of a batch, whose `moves` are its deltas in integers: each row that moves is to be rounded
    /// again, through [`Rounded::rows`].
    ///
    /// # Shapes
    /// `deltas`: `[count, width]`; `octets`: `[count]`, sum of the inputs of each example; `rate`: of an octet times a
    /// delta.
    pub fn drift(
        &mut self,
        kernels: &Kernels,
        moves: &mut Self,
        deltas: &[f32],
        octets: &[f32],
        rate: f32,
    ) {
        // Sums of magnitudes, and those that the inputs multiply.
        let (sums, products) = (&mut moves.max_drift, &mut moves.sum_drift);
        sums.fill(0.0);
        products.fill(0.0);
        (kernels.add_drift)(deltas, octets, sums, products);
        let (count, all): (f32, f32) = (octets.len() as f32, octets.iter().sum());
        // The rest are the roundings here.
        let slack = 1.0 + 1.0 / 128.0;
        let moved = sums.iter().zip(&*products).zip(&moves.units);
        let bounds = self.max.iter().zip(&self.sum);
        let drifts = self.max_drift.iter_mut().zip(&mut self.sum_drift);
        for ((drifts, (max, sum)), ((deltas, products), unit)) in drifts.zip(bounds).zip(moved) {
            // A delta is rounded by half a unit at most, and a weight by less than 2^-23 of it.
            *drifts.0 += 255.0 * slack * (deltas * rate + 0.5 * count * unit);
            *drifts.0 += (max + *drifts.0) / (1 << 22) as f32;
            *drifts.1 += slack * (products * rate + 0.5 * all * unit);
            *drifts.1 += (sum + *drifts.1) / (1 << 22) as f32;
        }
        self.is_followed = true;
    }
}

/// By how much the largest magnitude and the sum of magnitudes of `rows` numbers may move while their unit, by its
/// exponent, surely stays ([`unit_exponent`]).
fn room(exponent: u32, max: f32, sum: f32, rows: usize) -> [f32; 2] {
    // Beside the margin there: another 2^-9 for what is rounded here.
    const MARGIN: f32 = 1.0 + 1.0 / 128.0;
    const SLACK: f32 = 1.0 + 1.0 / 512.0;
    // The f32 sum of n numbers is off by at most n * 2^-24 of it, now and when it was found.
    let off = 3.0 * (rows + 16) as f32 / (1 << 24) as f32;
    let from = |bits: u32| power_of_two((exponent + bits).min(254)) / MARGIN;
    let below = |bits: u32, value: f32| from(bits + 1) / SLACK - value;
    let above = |bits: u32, value: f32| value - from(bits) * SLACK;
    let (mut max_room, mut sum_room) = (below(14, max), below(22, sum));
    // Of the two bounds one has to stay where it is; the least unit of all needs none.
    if unit_exponent(0.0, 0.0) != Ok(exponent) {
        match above(22, sum) > 0.0 {
            true => sum_room = sum_room.min(above(22, sum)),
            false => max_room = max_room.min(above(14, max)),
        }
    }
    [max_room, (sum_room - off * sum) / (1.0 + off)]
}

/// Sum of some octets.
pub(super) fn sum_of(octets: &[u8]) -> u32 {
    /// Every other octet.
    const HALF: u64 = 0x00ff_00ff_00ff_00ff;
    // As many as the halves of a word can add up.
    let long = |octets: &[u8]| -> u64 {
        let (words, rest) = octets.as_chunks::<8>();
        let words = words.iter().map(|&word| u64::from_le_bytes(word));
        let halves: u64 = words.map(|word| (word & HALF) + (word >> 8 & HALF)).sum();
        let quarters = (halves & 0xffff_0000_ffff) + (halves >> 16 & 0xffff_0000_ffff);
        let rest: u64 = rest.iter().map(|&octet| u64::from(octet)).sum();
        (quarters & 0xffff_ffff) + (quarters >> 32) + rest
    };
    octets.chunks(1024).map(|octets| long(octets) as u32).sum()
}
