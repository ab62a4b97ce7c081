//! Inputs: files that an experiment names by their path. A run directory keeps copies of them, which its
//! `config.toml` names, so that the run is repeated when the originals are others or gone.

use crate::experiment::Experiment;
use crate::radio::Radio;
use crate::refusal::Refusal;
use crate::settings::Settings;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Most of a trace, in bytes.
const MAX_TRACE: u64 = 64 << 20;

/// Copies, by name in the run directory.
#[derive(Debug, Default)]
struct Copies(BTreeMap<String, String>);

impl Copies {
    /// Name of the copy of a text, which would be `name` if no other text has it.
    fn add(&mut self, folder: &str, name: &str, text: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name: String = name
            .chars()
            .map(|c| if plain(c) { c } else { '-' })
            .collect();
        let name = match name.trim_start_matches('.') {
            "" => "input",
            name => name,
        };
        let numbered = (2..).map(|number| format!("{folder}{number}-{name}"));
        let mut names = std::iter::once(format!("{folder}{name}")).chain(numbered);
        let is_free = |name: &String| self.0.get(name).is_none_or(|there| there == text);
        let name = names.find(is_free).unwrap_or_default();
        self.0.insert(name.clone(), text.to_owned());
        name
    }
}

impl Experiment {
    /// Names copies below `folder` of the run directory in the place of files that are named by their path;
    /// returns their texts by name.
    pub fn keep_inputs(&mut self, folder: &str) -> BTreeMap<String, String> {
        let mut copies = Copies::default();
        if let (Some(path), Some(text)) = (&mut self.faults.trace, &self.trace) {
            let name = copies.add(folder, &file_name(path), text);
            *path = name.into();
        }
        if let (Some(path), Some(text)) = (&mut self.partition_file, &self.partition_text) {
            let name = copies.add(folder, &file_name(path), text);
            *path = name.into();
        }
        let places = self.mesh_radio.as_ref().and_then(Radio::text);
        if let (Some(path), Some(text)) = (&mut self.topology_file, places) {
            *path = copies.add(folder, &file_name(path), text).into();
        }
        let in_all = self.groups.iter_mut().map(|group| &mut group.board);
        for board in in_all.chain([&mut self.board]).flatten() {
            if board.path.is_some() {
                let board = Arc::make_mut(board);
                let name = format!("{}.board.toml", board.name);
                board.path = Some(copies.add(folder, &name, &board.text));
            }
        }
        for group in &mut self.groups {
            if let (Some(link), Some(text)) = (&mut group.link_name, &group.link_text)
                && link.contains('/')
            {
                let name = copies.add(folder, &file_name(Path::new(link)), text);
                if self.link.as_ref() == Some(link) {
                    self.link = Some(name.clone());
                }
                *link = name;
            }
        }
        copies.0
    }

    /// Names what lies in the run directory as its `config.toml` does: from there.
    pub(crate) fn name_inputs_from_out(&mut self) {
        let out = self.out.clone();
        let short = |path: &str| {
            let path = Path::new(path).strip_prefix(&out).ok()?;
            path.to_str().map(str::to_owned)
        };
        let files = [
            &mut self.faults.trace,
            &mut self.partition_file,
            &mut self.topology_file,
        ];
        for path in files {
            if let Some(short) = path.as_deref().and_then(Path::to_str).and_then(short) {
                *path = Some(short.into());
            }
        }
        let groups = self.groups.iter_mut();
        let (boards, links): (Vec<_>, Vec<_>) = groups
            .map(|group| (&mut group.board, &mut group.link_name))
            .unzip();
        for board in boards.into_iter().chain([&mut self.board]).flatten() {
            if let Some(path) = board.path.as_deref().and_then(short) {
                Arc::make_mut(board).path = Some(path);
            }
        }
        for link in links.into_iter().chain([&mut self.link]).flatten() {
            if let Some(path) = short(link) {
                *link = path;
            }
        }
    }
}

/// The text of the trace that is asked for.
///
/// # Errors
/// A [`Refusal`] if it cannot be read.
pub(crate) fn trace(settings: &Settings) -> Result<Option<String>, Refusal> {
    let path = settings.faults.trace.as_deref();
    let text = path.map(|path| zfl_files::read_text(path, MAX_TRACE));
    let text = text.transpose();
    text.map_err(|error| Refusal(format!("faults.trace: {error}")))
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_name_of_its_own_and_one_text_is_one_copy() {
        let mut copies = Copies::default();
        let mut add = |name: &str, text: &str| copies.add("inputs/", name, text);
        assert_eq!(add("my link.toml", "a"), "inputs/my-link.toml");
        assert_eq!(add("my-link.toml", "b"), "inputs/2-my-link.toml");
        assert_eq!(add("my-link.toml", "c"), "inputs/3-my-link.toml");
        assert_eq!(add("my-link.toml", "a"), "inputs/my-link.toml");
        assert_eq!(add("../é", "a"), "inputs/--");
        assert_eq!(add("..", "a"), "inputs/input");
    }
}
