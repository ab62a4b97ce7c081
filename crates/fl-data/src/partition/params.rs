//! Parameters of a partitioner: declared once with default and bounds, read by name.

/// One parameter of a partitioner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartitionParam {
    /// Name on the command line and in files.
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

/// Values of a partitioner's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    specs: &'static [PartitionParam],
    values: Vec<f64>,
}

impl Params {
    /// The defaults of `specs`.
    pub fn defaults(specs: &'static [PartitionParam]) -> Self {
        let values = specs.iter().map(|spec| spec.default).collect();
        Self { specs, values }
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// A text for people if there is no such parameter or the value is out of its bounds; nothing has
    /// changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), String> {
        let Some(at) = self.specs.iter().position(|spec| spec.name == name) else {
            return Err(match self.names().as_slice() {
                [] => format!("there is no `{name}`: this partitioner has no parameters"),
                names => format!("there is no `{name}`: take {}", names.join(" or ")),
            });
        };
        let PartitionParam {
            min, max, whole, ..
        } = self.specs[at];
        if !(min..=max).contains(&value) {
            return Err(format!(
                "{name} is {value}: give a number from {min} to {max}"
            ));
        }
        if whole && value.fract() != 0.0 {
            return Err(format!("{name} is {value}: give a whole number"));
        }
        self.values[at] = value;
        Ok(())
    }

    /// Value of a parameter.
    ///
    /// # Panics
    /// If the partitioner has not declared it.
    pub fn get(&self, name: &str) -> f64 {
        let mut all = self.iter();
        let found = all.find(|(spec, _)| spec.name == name);
        found.map(|(_, value)| value).expect("a declared parameter")
    }

    /// All parameters in their order, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static PartitionParam, f64)> + '_ {
        self.specs.iter().zip(self.values.iter().copied())
    }

    fn names(&self) -> Vec<&'static str> {
        self.specs.iter().map(|spec| spec.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SPECS: [PartitionParam; 2] = [
        PartitionParam {
            name: "alpha",
            default: 0.5,
            min: 0.1,
            max: 10.0,
            whole: false,
            doc: "",
        },
        PartitionParam {
            name: "least",
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
        assert_eq!((params.get("alpha"), params.get("least")), (0.5, 3.0));
        params.set("alpha", 10.0).unwrap();
        params.set("least", 9.0).unwrap();
        assert_eq!((params.get("alpha"), params.get("least")), (10.0, 9.0));
    }

    #[test]
    fn what_is_refused_says_why_and_changes_nothing() {
        let mut params = Params::defaults(&SPECS);
        let mut refused = |name: &str, value| params.set(name, value).unwrap_err();
        assert_eq!(
            refused("beta", 1.0),
            "there is no `beta`: take alpha or least"
        );
        assert_eq!(
            refused("alpha", 11.0),
            "alpha is 11: give a number from 0.1 to 10"
        );
        assert!(refused("alpha", f64::NAN).contains("from 0.1"));
        assert_eq!(refused("least", 2.5), "least is 2.5: give a whole number");
        assert_eq!(params, Params::defaults(&SPECS));
        let none = Params::defaults(&[]).set("alpha", 1.0).unwrap_err();
        assert!(none.contains("no parameters"), "{none}");
    }
}
