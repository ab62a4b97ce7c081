//! Declared parameters: a name, a default and bounds, said once and read by name.
//!
//! Algorithms, partitioners and attacks declare theirs as a static list of [`ParamSpec`]s. A run's values
//! are [`Params`]: the defaults, with what was asked for set over them.
//!
//! # Invariants
//! - A value within [`Params`] is always within its bounds.
//! - Bounds are compared in f32. That is what travels to devices, and they check again.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::fmt;

/// Most parameters that one list may have.
pub const MAX_PARAMS: usize = 8;

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name on the command line, in files and on the wire.
    pub name: &'static str,
    /// Value unless one is given.
    pub default: f64,
    /// Least value allowed.
    pub min: f64,
    /// Largest value allowed.
    pub max: f64,
    /// Restriction to whole numbers; from 0 to 1 it is a yes or no.
    pub whole: bool,
    /// Meaning, in one line.
    pub doc: &'static str,
}

impl ParamSpec {
    /// Checks a value against the bounds.
    ///
    /// # Errors
    /// [`ParamError::Range`] or [`ParamError::Fraction`].
    pub fn check(&'static self, value: f64) -> Result<(), ParamError> {
        let bounds = self.min as f32..=self.max as f32;
        if !bounds.contains(&(value as f32)) {
            return Err(ParamError::Range { spec: self, value });
        }
        if self.whole && value % 1.0 != 0.0 {
            return Err(ParamError::Fraction { spec: self, value });
        }
        Ok(())
    }
}

/// Values of declared parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    specs: &'static [ParamSpec],
    values: [f64; MAX_PARAMS],
}

impl Params {
    /// The defaults of `specs`, of which the first [`MAX_PARAMS`] count.
    pub fn defaults(specs: &'static [ParamSpec]) -> Self {
        let mut values = [0.0; MAX_PARAMS];
        for (value, spec) in values.iter_mut().zip(specs) {
            *value = spec.default;
        }
        Self { specs, values }
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// [`ParamError`] if there is none of this name or the value is out of its bounds; nothing has
    /// changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        let found = self.specs.iter().position(|spec| spec.name == name);
        let Some(at) = found.filter(|&at| at < MAX_PARAMS) else {
            return Err(ParamError::Unknown);
        };
        self.specs[at].check(value)?;
        self.values[at] = value;
        Ok(())
    }

    /// Value of a parameter; 0 if there is none of this name.
    pub fn get(&self, name: &str) -> f64 {
        let found = self.iter().find(|(spec, _)| spec.name == name);
        found.map_or(0.0, |(_, value)| value)
    }

    /// Value of a whole parameter; 0 if there is none of this name.
    pub fn whole(&self, name: &str) -> u32 {
        self.get(name) as u32
    }

    /// All parameters in their order, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static ParamSpec, f64)> + '_ {
        self.specs.iter().zip(self.values)
    }
}

/// Reason why a parameter was refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ParamError {
    /// There is no parameter of this name.
    Unknown,
    /// Out of bounds, or not a number.
    Range {
        /// The parameter.
        spec: &'static ParamSpec,
        /// The value refused.
        value: f64,
    },
    /// A fraction where a whole number belongs.
    Fraction {
        /// The parameter.
        spec: &'static ParamSpec,
        /// The value refused.
        value: f64,
    },
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "there is no such parameter"),
            Self::Range { spec, value } => {
                let ParamSpec { name, min, max, .. } = spec;
                write!(f, "{name} is {value}, it must be from {min} to {max}")
            }
            Self::Fraction { spec, value } => {
                write!(f, "{} is {value}, it must be a whole number", spec.name)
            }
        }
    }
}

impl core::error::Error for ParamError {}

#[cfg(test)]
mod tests {
    use super::*;

    static SPECS: [ParamSpec; 2] = [
        ParamSpec {
            name: "mu",
            default: 0.5,
            min: 1e-6,
            max: 10.0,
            whole: false,
            doc: "",
        },
        ParamSpec {
            name: "count",
            default: 3.0,
            min: 1.0,
            max: 9.0,
            whole: true,
            doc: "",
        },
    ];

    #[test]
    fn parameters_have_defaults_and_take_values_within_bounds() {
        let mut params = Params::defaults(&SPECS);
        assert_eq!((params.get("mu"), params.whole("count")), (0.5, 3));
        params.set("mu", 10.0).unwrap();
        params.set("count", 9.0).unwrap();
        assert_eq!((params.get("mu"), params.whole("count")), (10.0, 9));
        assert_eq!(params.get("nu"), 0.0);
    }

    #[test]
    fn a_bound_that_was_rounded_on_its_way_to_a_device_is_still_within() {
        let rounded = f64::from(1e-6_f32);
        assert!(rounded < 1e-6);
        assert_eq!(SPECS[0].check(rounded), Ok(()));
    }

    #[test]
    fn what_is_refused_says_why_and_changes_nothing() {
        let mut params = Params::defaults(&SPECS);
        assert_eq!(params.set("nu", 1.0), Err(ParamError::Unknown));
        let error = params.set("mu", 11.0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "mu is 11, it must be from 0.000001 to 10"
        );
        assert!(params.set("mu", f64::NAN).is_err());
        let error = params.set("count", 2.5).unwrap_err();
        assert_eq!(error.to_string(), "count is 2.5, it must be a whole number");
        assert_eq!(params, Params::defaults(&SPECS));
    }

    #[test]
    fn parameters_beyond_the_most_are_not_there() {
        static MANY: [ParamSpec; MAX_PARAMS + 1] = [
            SPECS[0], SPECS[0], SPECS[0], SPECS[0], SPECS[0], SPECS[0], SPECS[0], SPECS[0],
            SPECS[1],
        ];
        let mut params = Params::defaults(&MANY);
        assert_eq!(params.set("count", 2.0), Err(ParamError::Unknown));
        assert_eq!(params.whole("count"), 0);
    }
}
