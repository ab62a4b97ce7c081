//! The list of attacks, each in a file of its name.

use crate::attack::Attack;

mod crowd;

/// Declares a module for each file and lists the attacks that it holds.
macro_rules! attacks {
    ($($module:ident::[$($attack:ident),+],)+) => {
        $(mod $module;)+

        /// Every attack.
        pub static ATTACKS: &[&dyn Attack] = &[$($(&$module::$attack),+),+];
    };
}

attacks! {
    sign_flip::[SignFlip],
    label_flip::[LabelFlip],
    gaussian::[Gaussian],
    scaled::[Scaled],
    lie::[Lie],
    min_max::[DEVIATION, SIGN, UNIT_VECTOR],
}
