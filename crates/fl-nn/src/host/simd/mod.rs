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

mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(super) use neon::NEON;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{AVX2, AVX512};

use super::list::List;
use crate::train::AdamStep;

/// Examples whose gradients are added in one go.
pub(crate) const BLOCK: usize = 32;

/// Inputs whose octets are turned from rows of examples into columns in one go.
pub(crate) const GROUP: usize = 16;

/// Octets that are looked at in one go.
pub(crate) const CHUNK: usize = 64;

/// The kernels of one level.
pub(crate) struct Kernels {
    /// Lists the octets of an input that are not zero, as shares of 255.
    pub list_octets: fn(input: &[u8], list: &mut List),
    /// Lists the numbers that are not zero.
    pub list_units: fn(units: &[f32], list: &mut List),
    /// `sums += sum_i x_i * rows[i]` over a list, in its order.
    ///
    /// # Shapes
    /// `rows`: row-major `[_, width]`; `sums`: `[width]`.
    pub add_rows: fn(rows: &[f32], list: &List, sums: &mut [f32]),
    /// `below[i] = slope_i * (rows[i] . deltas)` over a list of slopes, each product in the order of
    /// [`crate::kernels::matrix`].
    ///
    /// # Shapes
    /// `rows`: row-major `[_, width]`; `deltas`: `[width]`.
    pub dots: fn(rows: &[f32], deltas: &[f32], list: &List, below: &mut [f32]),
    /// `gradient[i] += sum_n columns[i][n] * deltas[n]`, zeros of `columns` left out.
    ///
    /// # Shapes
    /// `columns`: `[rows, BLOCK]`; `deltas`: `[count, width]` with `count <= BLOCK`; `gradient`:
    /// `[rows, width]`.
    pub add_gradient:
        fn(columns: &[f32], deltas: &[f32], width: usize, gradient: &mut [f32], list: &mut List),
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
    /// Bit `i` is set where octet `i` is not zero.
    unsafe fn octets_set(octets: &[u8; CHUNK]) -> u64;
    /// Columns of a matrix of octets.
    unsafe fn columns(rows: &[&[u8; GROUP]; GROUP], to: &mut [[u8; GROUP]; GROUP]);
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
