//! Keys of an experiment, each declared once: name, documentation, values, default, flag.
//!
//! The macro `keys!` makes of each declaration a field of a settings struct, its reading from TOML, its
//! check, its place under a flag, and a row of a table of [`Key`]s. The flags of `zfl`, the tables of
//! `experiments/README.md` and the JSON Schema are made of those rows.

pub(crate) mod domain;
mod reference;
mod schema;
pub mod spread;
pub(crate) mod table;

pub use reference::reference;
pub use schema::schema;

use crate::settings::Settings;
use serde_json::Value;
use std::ffi::OsStr;

/// A key of an experiment file.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// A line for people.
    pub doc: &'static str,
    /// The default, for people.
    pub default: fn() -> Option<String>,
    /// The values that it takes, for people.
    pub values: fn() -> String,
    /// The values that it takes, as a JSON Schema.
    pub schema: fn() -> Value,
    /// The flags that set it.
    pub flags: fn() -> Vec<Flag>,
}

/// A flag that sets a key.
#[derive(Clone, Copy)]
pub struct Flag {
    /// The flag without its dashes.
    pub long: &'static str,
    /// The commands that have it.
    pub commands: Commands,
    /// The heading that it stands under in the help.
    pub heading: &'static str,
    /// A line for people, if it is not the key's.
    pub doc: Option<&'static str>,
    /// The form of its value.
    pub form: Form,
    /// Checks a value.
    pub check: fn(&OsStr) -> Result<(), String>,
    /// Sets the key to a value.
    pub set: fn(&mut Settings, &OsStr) -> Result<(), String>,
}

/// The form of a flag's value.
#[derive(Clone, Copy)]
pub enum Form {
    /// A text, shown as this.
    Text(&'static str),
    /// A text, shown as this; the flag may be given several times.
    Texts(&'static str),
    /// One of these names, each with a line of help.
    Names(fn() -> Vec<(&'static str, &'static str)>),
    /// None: that it is there means `true`.
    Switch,
}

/// The commands that have a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {
    /// `zfl run`.
    Run,
    /// `zfl run` and `zfl server`.
    RunAndServer,
}

/// Declares keys. Each has a line of documentation, a name, a [`domain`] of values; then a default
/// (`= 20`) or words for it (`| "half of them"`); then the commands, name and heading of its flag.
/// `at` says how one gets from [`Settings`] to the struct.
macro_rules! keys {
    (
        $(#[$meta:meta])*
        pub struct $Struct:ident at $at:expr, table $TABLE:ident {$(
            $(#[doc = $doc:literal])+
            $key:ident: $Domain:ty
            $(| $otherwise:literal)?
            $(= $default:expr)?
            $(, $commands:ident $flag:literal $heading:literal)?
            ;
        )*}
        $(beside {$( $(#[$other_meta:meta])* pub $other:ident: $Other:ty, )*})?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        pub struct $Struct {
            $( $(#[doc = $doc])+ pub $key: Option<<$Domain as Domain>::Value>, )*
            $($( $(#[$other_meta])* pub $other: $Other, )*)?
        }

        /// The keys of the struct of that name.
        pub(crate) const $TABLE: &[Key] = &[$(Key {
            name: stringify!($key),
            doc: concat!($($doc),+).trim_ascii_start(),
            default: || None
                $( .or({
                    let usual: <$Domain as Domain>::Value = $default;
                    Some(<$Domain>::show(&usual))
                }) )?
                $( .or(Some(String::from($otherwise))) )?,
            values: <$Domain>::values,
            schema: <$Domain>::schema,
            flags: || {
                #[allow(unused_mut, reason = "a key may have no flag")]
                let mut flags = Vec::new();
                $( flags.extend(<$Domain>::flags(
                    $flag,
                    Commands::$commands,
                    $heading,
                    |settings, text| {
                        let at: fn(&mut Settings) -> &mut $Struct = $at;
                        let said = <$Domain>::parse_os(text)?;
                        let field = &mut at(settings).$key;
                        *field = <$Domain>::over(Some(said), field.take());
                        Ok(())
                    },
                )); )?
                flags
            },
        }),*];

        impl $Struct {
            /// Reads the value of a key; false if it is none of these.
            #[allow(dead_code, reason = "flags are read by none of these")]
            fn take_key<'de, A: MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                match key {
                    $( stringify!($key) => {
                        self.$key = Some(map.next_value_seed(Seed::<$Domain>::new())?);
                    } )*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// Refuses values that flags could not have: the path of the value, and advice.
            #[allow(dead_code, reason = "flags have been checked")]
            fn check_keys(&self, place: &str) -> Result<(), (String, String)> {
                $( if let Some(value) = &self.$key {
                    <$Domain>::check(value).map_err(|(below, advice)| {
                        let key = stringify!($key);
                        (format!("{place}{key}{below}"), format!("`{key}`: {advice}"))
                    })?;
                } )*
                Ok(())
            }

            /// Lays these keys over others.
            #[allow(dead_code, reason = "those of groups and faults have rules of their own")]
            fn lay_over(&self, below: &mut Self) {
                $( below.$key = <$Domain>::over(self.$key.clone(), below.$key.take()); )*
            }

            /// Clears those keys of others that these have.
            #[allow(dead_code, reason = "most keys of a group are laid over")]
            fn clear_in(&self, other: &mut Self) {
                $( if self.$key.is_some() {
                    other.$key = None;
                } )*
            }

            $($(
                /// The value of the key of this name, or its default.
                pub fn $key(&self) -> <$Domain as Domain>::Value {
let usual = || -> <$Domain as Domain>::Value { $default };
                    self.$key.clone().unwrap_or_else(usual)
                }
            )?)*
        }
    };
}
pub(crate) use keys;
