//! The list of attacks, each in a file of its name.

use crate::attack::Attack;

/// Declares a module for each attack and lists what it holds.
macro_rules! attacks {
    ($($module:ident::$attack:ident,)+) => {
        $(mod $module;)+

        /// Every attack.
        pub static ATTACKS: &[&dyn Attack] = &[$(&$module::$attack),+];
    };
}

attacks! {
    sign_flip::SignFlip,
    label_flip::LabelFlip,
}
