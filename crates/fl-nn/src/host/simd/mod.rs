//! The kernels of a host in vector instructions: the only module of this crate with `unsafe`.
//!
//! # Why each `unsafe` is sound
//! - *Instructions*: a [`Kernels`] table is handed out by [`super::Level::kernels`] alone, after the
//!   processor was asked for every feature that the table's functions are compiled for. Everything generic
//!   over [`Vector`] is inlined into those functions.
//! - *Memory*: pointers are made from slices whose length was checked in the same function; heads of
//!   vectors ([`Vector::load_head`]) touch no lane beyond their count.
//!
//! # Same bits as the scalar form
//! Lanes are independent sums (outputs of a layer, or the eight partial sums that
//! [`crate::kernels::matrix`] defines), so the order within a sum is the scalar one. Multiplication and
//! addition stay two instructions with two roundings.

mod fixed;
mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(super) use neon::NEON;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{AVX2, AVX512};

use core::ops::{Deref, Range};
use core::slice;

use super::list::List;
use super::pairs::{Line, Pairs};
use crate::train::AdamStep;

/// Examples whose gradients are added in one go.
pub(crate) const BLOCK: usize = 32;

/// Inputs whose octets are turned from rows of examples into columns in one go.
pub(crate) const GROUP: usize = 16;

/// Octets that are looked at in one go.
pub(crate) const CHUNK: usize = 64;

/// Columns of a [`Line`].
pub(crate) const COLUMNS: usize = 16;

/// Columns whose bounds are found together: sums that wait for themselves fill each other's time.
pub(crate) const TOGETHER: usize = 4 * COLUMNS;

/// Largest magnitudes, and sums of magnitudes.
type Bounds = ([f32; TOGETHER], [f32; TOGETHER]);

/// Memory of f32 that begins with a cache line, so that fewer vectors lie in two.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floats(Vec<Line>);

impl Floats {
    /// The first `len`, made as needed; contents do not matter.
    pub fn room(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(COLUMNS);
        if self.0.len() < lines {
            self.0.resize(lines, Line::default());
        }
        // SAFETY: a line is as many numbers of 32 bits, and any bits are an f32.
        let all = unsafe { slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), lines * COLUMNS) };
        &mut all[..len]
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * COLUMNS) }
    }
}

/// Rows of a matrix of which row `n` is taken from `places[n]`, if there are places.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub values: &'a [f32],
    pub width: usize,
    pub places: Option<&'a [u32]>,
}

impl<'a> Source<'a> {
    /// Pairs of rows, of which the last may have one.
    pub fn pairs(&self) -> usize {
        (self.values.len() / self.width).div_ceil(2)
    }

    /// Row `n`, or none behind the last.
    #[inline(always)]
    fn row(&self, n: usize) -> Option<&'a [f32]> {
        let place = match self.places {
            Some(places) => *places.get(n)? as usize,
            None => n,
        };
        self.values
            .get(place * self.width..(place + 1) * self.width)
    }
}

/// Integers of a matrix, what its columns are scaled by, and the pair of rows with which some of it begins.
pub(crate) struct RoundedRows<'a> {
    pub lines: &'a mut [Line],
    pub scales: &'a [f32],
    pub first: usize,
}

/// The kernels of one level.
#[derive(Debug)]
#[allow(
    clippy::type_complexity,
    reason = "functions, whose arguments are named"
)]
pub(crate) struct Kernels {
    /// Lists the octets of an input that are not zero, as shares of 255.
    pub list_octets: fn(input: &[u8], list: &mut List),
    /// Lists the numbers that are not zero.
    pub list_units: fn(units: &[f32], list: &mut List),
    /// `sums = base + sum_i x_i * rows[i]` over a list, in its order.
    ///
    /// # Shapes
    /// `rows`: row-major `[_, width]`; `base`, `sums`: `[width]`.
    pub add_rows: fn(rows: &[f32], list: &List, base: &[f32], sums: &mut [f32]),
    /// `below[i] = slope_i * (rows[i] . deltas)` over a list of slopes, each product in the order of
    /// [`crate::kernels::matrix`]; without slopes only the list's places count.
    ///
    /// # Shapes
    /// `rows`: row-major `[_, width]`; `deltas`: `[width]`.
    pub dots: fn(rows: &[f32], deltas: &[f32], list: &List, slopes: bool, below: &mut [f32]),
    /// `gradient[i] += sum_n columns[i][n] * deltas[n]`, zeros of `columns` left out.
    ///
    /// # Shapes
    /// `columns`: `[rows, BLOCK]`; `deltas`: `[count, width]` with `count <= BLOCK`; `gradient`:
    /// `[rows, width]`.
    pub add_gradient:
        fn(columns: &[f32], deltas: &[f32], width: usize, gradient: &mut [f32], list: &mut List),
    /// `weights[i] -= rate * sum_n columns[i][n] * deltas[n]`, likewise.
    pub step_gradient: fn(
        columns: &[f32],
        deltas: &[f32],
        width: usize,
        rate: f32,
        weights: &mut [f32],
        list: &mut List,
    ),
    /// `weights[i] -= rate * sum_n columns[i][n] / 255 * deltas[n]`, zeros of `columns` left out.
    ///
    /// # Shapes
    /// `columns`: `[_, count]`, zeros up to a multiple of [`CHUNK`]; `deltas`: `[count, width]`; `weights`: `[rows, width]`.
    pub step_rows: fn(
        columns: &[u8],
        deltas: &[f32],
        width: usize,
        rate: f32,
        weights: &mut [f32],
        list: &mut List,
    ),
    /// Adds the list of the pairs of octets that are not both zero.
    pub list_pairs: fn(octets: &[u8], pairs: &mut Pairs),
    /// `sums[n] = base + units * sum` of pairs of octets times pairs of rows, exactly, for each list.
    ///
    /// # Shapes
    /// `lines`: tiles of as many lines as there are pairs of rows; `lists`: places and pairs; `units`, `base`:
    /// `[width]`; `sums`: `[lists, _]`, of which the first `width` are written.
    pub add_pairs: fn(
        lines: &[Line],
        lists: &[(&[u32], &[u32])],
        units: &[f32],
        base: &[f32],
        sums: &mut [f32],
    ),
    /// `weights -= units * sum`, likewise.
    pub subtract_pairs:
        fn(lines: &[Line], list: (&[u32], &[u32]), units: &[f32], weights: &mut [f32]),
    /// The same for the list of each column of octets, and the rows that moved rounded anew.
    ///
    /// # Shapes
    /// `columns`: `[GROUP, _]`, zeros from `batch` up to a multiple of [`CHUNK`]; `moves`: lines and units as above;
    /// `weights`: `[rows, width]` with `rows <= GROUP`; `rounded`: those rows, the first of a pair first.
    pub move_rows: fn(
        columns: &[u8],
        batch: usize,
        moves: (&[Line], &[f32]),
        weights: &mut [f32],
        rounded: Option<RoundedRows<'_>>,
        pairs: &mut Pairs,
    ),
    /// The largest magnitude and the sum of magnitudes, in the order of the rows, of each column of some tiles,
    /// at most [`TOGETHER`].
    pub column_bounds: fn(matrix: Source<'_>, tiles: &[usize]) -> Bounds,
    /// Rounds columns of some pairs of rows to integers; they begin with pair `first` of the lines.
    ///
    /// # Shapes
    /// `scales`: `[width]`, up to whole tiles; `lines`: tiles of as many lines as the matrix has pairs of rows.
    pub round: fn(
        rows: Source<'_>,
        pairs: Range<usize>,
        columns: Range<usize>,
        scales: &[f32],
        lines: &mut [Line],
        first: usize,
    ),
    /// `max += sum_n |deltas[n]|`, `sum += sum_n octets[n] * |deltas[n]|`.
    ///
    /// # Shapes
    /// `deltas`: `[count, width]`; `octets`: `[count]`; `max`, `sum`: `[width]`.
    pub add_drift: fn(deltas: &[f32], octets: &[f32], max: &mut [f32], sum: &mut [f32]),
    /// `to = exp(from - max)` with the bits of the `libm` crate.
    pub exp: fn(from: &[f32], max: f32, to: &mut [f32]),
    /// `z = 1 / (1 + exp(-z))`, likewise.
    pub sigmoid: fn(units: &mut [f32]),
    /// `params -= rate * gradient`.
    pub step: fn(rate: f32, gradient: &[f32], params: &mut [f32]),
    /// One step of Adam.
    pub adam: fn(
        step: &AdamStep,
        weights: &mut [f32],
        gradient: &[f32],
        means: &mut [f32],
        squares: &mut [f32],
    ),
    /// Turns rows into columns, `stride` octets apart.
    pub transpose: fn(rows: &[&[u8; GROUP]; GROUP], columns: &mut [u8], stride: usize),
}

/// A register of f32.
///
/// # Safety
/// Every method needs a processor with the instructions of the implementation, and pointers to as many
/// numbers as it reads or writes: [`Vector::LANES`], or `count` of a head, which is at most that.
trait Vector: Copy {
    const LANES: usize;
    /// Sums that fit the registers beside one factor and one product.
    const SUMS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` numbers, then zeros.
    unsafe fn load_head(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_head(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// Writes the lanes that are not zero and their places from `first` on, and tells how many; all lanes
    /// of both targets may be written.
    unsafe fn pack(self, first: u32, indices: *mut u32, values: *mut f32) -> usize;
    /// A tile of exact sums as f32.
    type Tile: AsRef<[Self]>;

    unsafe fn abs(self) -> Self;
    /// The larger of the bits as integers.
    unsafe fn max_bits(self, other: Self) -> Self;
    /// The low halves of the lanes, and those of `other` above them.
    unsafe fn halves(self, other: Self) -> Self;
    /// [`Vector::pack`] of pairs of octets, twice as many octets as lanes.
    unsafe fn pack_pairs(from: *const u8, first: u32, indices: *mut u32, values: *mut u32)
    -> usize;
    /// Sums of pairs of octets times the lines at their places.
    unsafe fn weigh(tile: *const Line, indices: &[u32], octets: &[u32]) -> Self::Tile;
    /// A pair of octets in each lane.
    unsafe fn pair(octets: u32) -> Self;
    /// Adds a line, or a part of one, times a pair of octets: all are integers.
    unsafe fn add_products(self, line: *const f32, octets: Self) -> Self;
    /// Integers as f32.
    unsafe fn to_floats(self) -> Self;
    /// The whole part towards zero, as f32.
    unsafe fn whole(self) -> Self;
    /// Two to the power of a whole number of -126..=127.
    unsafe fn power_of_two(self) -> Self;
    /// All bits where `self < other`, else none.
    unsafe fn below(self, other: Self) -> Self;
    /// `yes` where this has all bits, `no` where it has none.
    unsafe fn choose(self, yes: Self, no: Self) -> Self;
    /// The smaller; `other` where one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The larger; `other` where one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// `exp` by the steps of `libm::expf`, for every number.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let bits = |bits| f32::from_bits(bits);
        // SAFETY: the caller has the instructions.
        unsafe {
            let number = |value| Self::splat(value);
            let (zero, one) = (number(0.0), number(1.0));
            let magnitude = self.abs();
            let negative = self.below(zero);
            // The multiple of ln 2: none below half of it, one up to one and a half.
            let half = negative.choose(number(-0.5), number(0.5));
            let many = self.mul(number(bits(0x3fb8_aa3b))).add(half);
            let many = many.max(number(-160.0)).min(number(160.0)).whole();
            let few = negative.choose(number(-1.0), one);
            let k = number(bits(0x3f85_1592)).below(magnitude).choose(many, few);
            let k = number(bits(0x3eb1_7218)).below(magnitude).choose(k, zero);
            let high = self.sub(k.mul(number(bits(0x3f31_7200))));
            let low = k.mul(number(bits(0x35bf_be8e)));
            let x = high.sub(low);
            let square = x.mul(x);
            let p = number(1.666_662_5e-1).add(square.mul(number(-2.766_733_3e-3)));
            let c = x.sub(square.mul(p));
            let y = x.mul(c).div(number(2.0).sub(c)).sub(low).add(high);
            let y = one.add(y);
            // In two steps, of which the first is exact and the second rounds what is subnormal.
            let first = k.max(number(-100.0)).min(number(127.0));
            let y = y.mul(first.power_of_two()).mul(k.sub(first).power_of_two());
            let y = number(bits(0x3900_0000))
                .below(magnitude)
                .choose(y, one.add(self));
            let y = number(bits(0xc2cf_f1b5)).below(self).choose(y, zero);
            let y = self
                .below(number(bits(0x42b1_7218)))
                .choose(y, number(f32::INFINITY));
            // A NaN is below nothing.
            self.below(number(f32::INFINITY)).choose(y, self)
        }
    }
    /// Bit `i` is set where octet `i` is not zero.
    unsafe fn octets_set(octets: &[u8; CHUNK]) -> u64;
    /// Writes the columns of a matrix of octets `stride` apart.
    unsafe fn columns(rows: &[&[u8; GROUP]; GROUP], to: *mut u8, stride: usize);
}

/// Eight partial sums of a dot product.
///
/// # Safety
/// As for [`Vector`].
trait Eight: Copy {
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `((0 + 4) + (1 + 5)) + ((2 + 6) + (3 + 7))` of each.
    unsafe fn sums(fours: [Self; 4]) -> [f32; 4];
}
