//! The secret of whoever joins, from a file or the environment: arguments show in `ps`.

use anyhow::Result;
use std::ffi::OsString;
use std::path::Path;
use zfl_experiment::Refusal;
use zfl_orchestrator::Word;

/// Environment variable with the secret.
pub const VARIABLE: &str = "ZFL_JOIN_SECRET";

/// Longest file that can hold a secret, in bytes.
const MOST: u64 = 256;

/// The secret that a file or the environment has.
///
/// # Errors
/// A [`Refusal`] if the file cannot be read, or if what is there is no secret; it is not repeated.
pub fn join_secret(file: Option<&Path>, environment: Option<OsString>) -> Result<Option<Word>> {
    // An empty variable is how a shell script leaves one out.
    let environment = environment.filter(|text| !text.is_empty());
    let (named, text) = match (file, environment) {
        (Some(file), _) => {
            let text = zfl_files::read_text(file, MOST);
            let text = text.map_err(|error| Refusal(format!("--join-secret: {error}")))?;
            (format!("--join-secret: {}", file.display()), text)
        }
        (None, Some(text)) => (VARIABLE.to_owned(), text.to_string_lossy().into_owned()),
        (None, None) => return Ok(None),
    };
    let word = text.trim_end_matches(['\r', '\n']).parse();
    Ok(Some(
        word.map_err(|advice| Refusal(format!("{named}: {advice}")))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "correct-horse-battery";

    #[test]
    fn a_file_goes_before_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{GOOD}\n")).unwrap();
        let by_file = join_secret(Some(&file), Some("another-horse-battery".into()));
        assert_eq!(by_file.unwrap().unwrap().text(), GOOD);
        let exported = join_secret(None, Some(GOOD.into())).unwrap();
        assert_eq!(exported.unwrap().text(), GOOD);
        assert!(join_secret(None, Some("".into())).unwrap().is_none());
        assert!(join_secret(None, None).unwrap().is_none());
    }

    #[test]
    fn what_is_no_secret_is_refused_without_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hunter2\n").unwrap();
        for (file, environment, named) in [
            (Some(file.as_path()), None, "secret: take 16 to 32"),
            (None, Some("hunter2".into()), "ZFL_JOIN_SECRET: take 16"),
            (Some(folder.path()), None, "--join-secret: "),
            (Some(Path::new("/dev/zero")), None, "--join-secret: "),
        ] {
            let refused = join_secret(file, environment).unwrap_err();
            assert!(refused.is::<Refusal>());
            let refused = refused.to_string();
            assert!(
                refused.contains(named) && !refused.contains("hunter2"),
                "{refused}"
            );
        }
    }
}
