//! Uniform: every client that is there is as likely as any other.

use alloc::vec::Vec;

use fl_param::Params;

use super::{Candidates, Pick, Selector, unscored};

/// Uniform selection, without putting back.
pub(crate) struct Uniform;

impl Selector for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn doc(&self) -> &'static str {
        "every client that is there is as likely as any other"
    }

    fn paper(&self) -> Option<&'static str> {
        Some("McMahan et al. 2017, https://arxiv.org/abs/1602.05629")
    }

    fn choose(&self, from: &Candidates<'_>, _: &Params) -> Vec<Pick> {
        unscored(from.shuffled(), from.size)
    }
}
