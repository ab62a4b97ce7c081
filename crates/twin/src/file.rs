//! Files of cores and profiles: in the tree, or built in.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use zfl_files::{FileError, MAX_TEXT, read_text};
use zfl_schema::{Document, Mistake};

/// Failure to read a core or a profile.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// There is none of this name.
    #[error("there is no {kind} {name}; there are: {known}")]
    Unknown {
        /// `core` or `profile`.
        kind: &'static str,
        /// Name that was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Its file cannot be read.
    #[error("{0}")]
    Read(#[from] FileError),
    /// Its file is none.
    #[error("{path}: {mistake}")]
    Mistake {
        /// The file.
        path: PathBuf,
        /// Place and advice.
        mistake: Box<Mistake>,
    },
    /// It says less of its error than was found.
    #[error(
        "profiles/{profile}.toml says {said} of its error in {what}, but {found:.3} was found: write that there"
    )]
    Better {
        /// The profile.
        profile: String,
        /// `time` or `energy`.
        what: &'static str,
        /// As the file has it.
        said: f64,
        /// Deviation that was found.
        found: f64,
    },
}

/// Reads the file of a name in a folder of the tree, or its text that is built in.
pub(crate) fn load<T: DeserializeOwned>(
    kind: &'static str,
    tree: Option<&Path>,
    folder: &str,
    name: &str,
    built_in: &[(&str, &str)],
    schema: &Value,
) -> Result<T, TwinError> {
    let known = built_in.iter().find(|(known, _)| *known == name);
    let is_name = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let path = Path::new(folder).join(format!("{name}.toml"));
    let in_tree = tree
        .map(|tree| tree.join(&path))
        .filter(|path| path.is_file());
    let (path, text) = match (in_tree, known) {
        (Some(path), _) if is_name => (path.clone(), read_text(&path, MAX_TEXT)?),
        (_, Some((_, text))) => (path, (*text).to_owned()),
        _ => {
            let known: Vec<_> = built_in.iter().map(|(name, _)| *name).collect();
            return Err(TwinError::Unknown {
                kind,
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
    };
    parse(&text, schema).map_err(|mistake| TwinError::Mistake {
        path,
        mistake: Box::new(mistake),
    })
}

fn parse<T: DeserializeOwned>(text: &str, schema: &Value) -> Result<T, Mistake> {
    let document = Document::toml(text)?;
    document.check(schema)?;
    document.read()
}
