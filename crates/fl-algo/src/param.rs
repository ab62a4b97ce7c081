//! Parameters of an algorithm: declared once with default and bounds, read by name.

use core::fmt;

/// Most parameters that one half of an algorithm may have.
pub const MAX_PARAMS: usize = 8;

/// One parameter of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name on the command line, in files and on the wire.
    pub name: &'static str,
    /// Value unless one is given.
    pub default: f32,
    /// Least value allowed.
    pub min: f32,
    /// Largest value allowed.
    pub max: f32,
    /// Restriction to whole numbers.
    pub whole: bool,
    /// Meaning, in one line.
    pub doc: &'static str,
}

impl ParamSpec {
    /// Checks a value against the bounds.
    ///
    /// # Errors
    /// [`ParamError::Range`] or [`ParamError::Fraction`].
    pub fn check(&'static self, value: f32) -> Result<(), ParamError> {
        if !(value >= self.min && value <= self.max) {
            return Err(ParamError::Range { spec: self, value });
        }
        if self.whole && libm::truncf(value) != value {
            return Err(ParamError::Fraction { spec: self, value });
        }
        Ok(())
    }
}

/// Parameter of server rules that go only a part of the way to the mean of the updates, or beyond it.
pub(crate) const SERVER_LEARNING_RATE: ParamSpec = ParamSpec {
    name: "server_learning_rate",
    default: 1.0,
    min: 1e-6,
    max: 1e3,
    whole: false,
    doc: "part of the way from the old global model to the mean of the updates",
};

/// Values of the parameters of one half of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    specs: &'static [ParamSpec],
    values: [f32; MAX_PARAMS],
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
    pub fn set(&mut self, name: &str, value: f32) -> Result<(), ParamError> {
        let found = self.specs.iter().position(|spec| spec.name == name);
        let Some(at) = found.filter(|&at| at < MAX_PARAMS) else {
            return Err(ParamError::Unknown);
        };
        self.specs[at].check(value)?;
        self.values[at] = value;
        Ok(())
    }

    /// Value of a parameter; 0 if there is none of this name.
    pub fn get(&self, name: &str) -> f32 {
        let found = self.iter().find(|(spec, _)| spec.name == name);
        found.map_or(0.0, |(_, value)| value)
    }

    /// Value of a whole parameter; 0 if there is none of this name.
    pub fn whole(&self, name: &str) -> u32 {
        self.get(name) as u32
    }

    /// All parameters in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static ParamSpec, f32)> + '_ {
        self.specs.iter().zip(self.values)
    }
}

/// Reason why a parameter was refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ParamError {
    /// The algorithm has no parameter of this name.
    Unknown,
    /// Out of bounds, or not a number.
    Range {
        /// The parameter.
        spec: &'static ParamSpec,
        /// The value refused.
        value: f32,
    },
    /// A fraction where a whole number belongs.
    Fraction {
        /// The parameter.
        spec: &'static ParamSpec,
        /// The value refused.
        value: f32,
    },
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "no parameter of this algorithm"),
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
            min: 0.0,
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
    }

    #[test]
    fn what_is_refused_says_why_and_changes_nothing() {
        let mut params = Params::defaults(&SPECS);
        assert_eq!(params.set("nu", 1.0), Err(ParamError::Unknown));
        let error = params.set("mu", 11.0).unwrap_err();
        assert_eq!(error.to_string(), "mu is 11, it must be from 0 to 10");
        assert!(params.set("mu", f32::NAN).is_err());
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
