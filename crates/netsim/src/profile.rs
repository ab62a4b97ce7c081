//! Links by name: `links/<name>.toml`, and the same files built in.
//!
//! `links/README.md` describes the format. It is read strictly: an unknown key is an error, so that
//! a misspelt impairment is not silently none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use zfl_files::{FileError, MAX_TEXT, read_text};
use zfl_schema::{Document, Mistake};

use crate::link::{Impairment, Link, Loss, Queue, Rate};

/// The profiles that are there without any file, by name.
const BUILT_IN: [(&str, &str); 6] = [
    ("ethernet", include_str!("../../../links/ethernet.toml")),
    ("wifi", include_str!("../../../links/wifi.toml")),
    ("lte-m", include_str!("../../../links/lte-m.toml")),
    ("nb-iot", include_str!("../../../links/nb-iot.toml")),
    ("ieee802154", include_str!("../../../links/ieee802154.toml")),
    (
        "lorawan-like",
        include_str!("../../../links/lorawan-like.toml"),
    ),
];

/// A link with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Name of the link, as in `link = "…"`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Payload of a frame of the medium. It is for people: the switch does not fragment.
    pub mtu_bytes: u32,
    /// The link as the switch emulates it.
    pub link: Link,
    /// The text that it was read from.
    pub text: String,
}

/// A link as a file states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSpec {
    /// From the device.
    pub uplink: DirectionSpec,
    /// To the device.
    pub downlink: DirectionSpec,
}

/// One direction of a link as a file states it; everything may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectionSpec {
    /// No limit if left out; the next five keys need it.
    pub rate_kbit_per_s: Option<f64>,
    /// Burst that passes at once after a pause.
    pub burst_bytes: Option<u32>,
    /// Limit of the queue in bytes.
    pub queue_bytes: Option<u32>,
    /// Limit of the queue as a time.
    pub queue_ms: Option<f64>,
    /// The least that a frame counts for.
    pub min_frame_bytes: Option<u32>,
    /// Added to every frame.
    pub overhead_bytes: Option<u32>,
    /// One way.
    pub delay_ms: f64,
    /// Uniform, plus or minus.
    pub jitter_ms: f64,
    /// True if jitter may let a frame overtake another.
    pub reorder: bool,
    /// From 0 to 100.
    pub loss_percent: f64,
    /// Each frame independently if left out.
    pub mean_loss_burst_frames: Option<f64>,
    /// From 0 to 100.
    pub duplicate_percent: f64,
    /// From 0 to 100.
    pub corrupt_percent: f64,
}

/// Reason for which a link could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no link of this name.
    #[error("link {name}: there is no {path} and none is built in; links here: {known}")]
    Unknown {
        /// The request as given.
        name: String,
        /// Path of the file that was tried.
        path: PathBuf,
        /// The links that are there.
        known: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// The file is not a link, or one that cannot be.
    #[error("{origin}: {mistake}")]
    Mistake {
        /// The file, or which link is built in.
        origin: String,
        /// Place and advice: the change to make.
        mistake: Box<Mistake>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    mtu_bytes: u32,
    uplink: DirectionSpec,
    downlink: DirectionSpec,
}

impl Profile {
    /// The link called `name`: the tree's `links/<name>.toml` if that is there, and the one that is built
    /// in otherwise. If `name` has a slash, it is the path of a file.
    pub fn load(tree: Option<&Path>, name: &str) -> Result<Self, ProfileError> {
        if name.contains('/') {
            return Self::read(Path::new(name), None);
        }
        let path = folder(tree).join(format!("{name}.toml"));
        if tree.is_some() && path.is_file() {
            return Self::read(&path, Some(name));
        }
        match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            Some((name, text)) => Self::parse(text, &format!("built-in link {name}")),
            None => {
                let known = known(tree).join(", ");
                Err(ProfileError::Unknown {
                    name: name.to_owned(),
                    path,
                    known,
                })
            }
        }
    }

    /// Reads a link's text; `origin` is what errors call it.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        Self::read_as(text, None).map_err(|mistake| refused(origin, mistake))
    }

    /// Reads a link's text; a file of the tree has the link's name.
    fn read_as(text: &str, named: Option<&str>) -> Result<Self, Mistake> {
        let document = Document::toml(text)?;
        document.check(&schema())?;
        let file: File = document.read()?;
        let spec = LinkSpec {
            uplink: file.uplink,
            downlink: file.downlink,
        };
        let link = spec.link().map_err(|problem| {
            // It begins with the direction.
            let path = problem.split(':').next().unwrap_or_default();
            document.mistake(path, &problem)
        })?;
        if let Some(named) = named.filter(|named| *named != file.name) {
            let problem = format!(
                "it says name = \"{}\"; name it as its file: \"{named}\"",
                file.name
            );
            return Err(document.mistake("name", problem));
        }
        let File {
            name,
            description,
            mtu_bytes,
            ..
        } = file;
        Ok(Self {
            name,
            description,
            mtu_bytes,
            link,
            text: text.to_owned(),
        })
    }

    fn read(path: &Path, named: Option<&str>) -> Result<Self, ProfileError> {
        let text = read_text(path, MAX_TEXT)?;
        Self::read_as(&text, named).map_err(|mistake| refused(&path.display().to_string(), mistake))
    }
}

/// The names of all links, in order: those of a tree and those that are built in.
pub fn known(tree: Option<&Path>) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let entries = tree
        .and_then(|_| std::fs::read_dir(folder(tree)).ok())
        .into_iter()
        .flatten()
        .flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| {
        path.is_file()
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
    });
    names.extend(files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())));
    names.sort();
    names.dedup();
    names
}

fn folder(tree: Option<&Path>) -> PathBuf {
    tree.unwrap_or(Path::new("")).join("links")
}

fn refused(origin: &str, mistake: Mistake) -> ProfileError {
    ProfileError::Mistake {
        origin: origin.to_owned(),
        mistake: Box::new(mistake),
    }
}

/// The JSON Schema of a link.
fn schema() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    let from_0 = json!({"type": "number", "minimum": 0});
    let above_0 = json!({"type": "number", "exclusiveMinimum": 0});
    let percent = json!({"type": "number", "minimum": 0, "maximum": 100});
    let direction = json!({
        "type": "object",
        "properties": {
            "rate_kbit_per_s": above_0,
            "burst_bytes": count,
            "queue_bytes": count,
            "queue_ms": from_0,
            "min_frame_bytes": count,
            "overhead_bytes": count,
            "delay_ms": from_0,
            "jitter_ms": from_0,
            "reorder": {"type": "boolean"},
            "loss_percent": percent,
            "mean_loss_burst_frames": above_0,
            "duplicate_percent": percent,
            "corrupt_percent": percent,
        },
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "name": text,
            "description": text,
            "mtu_bytes": count,
            "uplink": direction,
            "downlink": direction,
        },
        "required": ["name", "description", "mtu_bytes", "uplink", "downlink"],
        "additionalProperties": false,
    })
}

impl LinkSpec {
    /// The link, checked.
    ///
    /// # Errors
    /// If there can be no such link; the text says what to change, in the words of the file.
    pub fn link(&self) -> Result<Link, String> {
        let direction = |name: &str, spec: &DirectionSpec| {
            spec.impairment()
                .map_err(|problem| format!("{name}: {problem}"))
        };
        let link = Link {
            uplink: direction("uplink", &self.uplink)?,
            downlink: direction("downlink", &self.downlink)?,
        };
        link.check().map(|()| link)
    }
}

impl DirectionSpec {
    fn impairment(&self) -> Result<Impairment, String> {
        Ok(Impairment {
            loss: Loss {
                probability: self.loss_percent / 100.0,
                mean_burst: self.mean_loss_burst_frames,
            },
            delay: millis("delay_ms", self.delay_ms)?,
            jitter: millis("jitter_ms", self.jitter_ms)?,
            reorder: self.reorder,
            rate: self.rate()?,
            duplicate: self.duplicate_percent / 100.0,
            corrupt: self.corrupt_percent / 100.0,
        })
    }

    fn rate(&self) -> Result<Option<Rate>, String> {
        let Some(kbit_per_s) = self.rate_kbit_per_s else {
            return self.no_rate();
        };
        let bits_per_s = kbit_per_s * 1000.0;
        if !(bits_per_s >= 1.0 && bits_per_s <= u64::MAX as f64) {
            return Err(format!(
                "rate_kbit_per_s is {kbit_per_s}: give a number above 0, or leave it out for no \
                 limit"
            ));
        }
        let plain = Rate::new(bits_per_s.round() as u64);
        let queue = match (self.queue_bytes, self.queue_ms) {
            (Some(_), Some(_)) => return Err("give queue_bytes or queue_ms, not both".into()),
            (Some(bytes), None) => Queue::Bytes(bytes),
            (None, Some(ms)) => Queue::Time(millis("queue_ms", ms)?),
            (None, None) => plain.queue,
        };
        Ok(Some(Rate {
            queue,
            burst_bytes: self.burst_bytes.unwrap_or(plain.burst_bytes),
            min_frame_bytes: self.min_frame_bytes.unwrap_or(plain.min_frame_bytes),
            overhead_bytes: self.overhead_bytes.unwrap_or(plain.overhead_bytes),
            ..plain
        }))
    }

    /// Refuses what has a meaning only with a rate.
    fn no_rate(&self) -> Result<Option<Rate>, String> {
        let keys = [
            ("burst_bytes", self.burst_bytes.is_some()),
            ("queue_bytes", self.queue_bytes.is_some()),
            ("queue_ms", self.queue_ms.is_some()),
            ("min_frame_bytes", self.min_frame_bytes.is_some()),
            ("overhead_bytes", self.overhead_bytes.is_some()),
        ];
        match keys.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(format!(
                "{key} does nothing without rate_kbit_per_s: give both"
            )),
            None => Ok(None),
        }
    }
}

fn millis(key: &str, ms: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(ms / 1000.0)
        .map_err(|_| format!("{key} is {ms}: give a number of milliseconds from 0 on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    const HEAD: &str = "name = \"x\"\ndescription = \"\"\nmtu_bytes = 1500\n";

    fn parse(uplink: &str) -> Result<Profile, String> {
        let text = format!("{HEAD}[uplink]\n{uplink}\n[downlink]\n");
        Profile::parse(&text, "x.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_built_in_is_what_the_folder_has() {
        let built_in: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        let known = known(Some(&workspace()));
        assert_eq!(known.len(), built_in.len(), "{known:?}");
        for (name, text) in BUILT_IN {
            let profile = Profile::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(profile.name, name);
            assert_eq!(Profile::load(Some(&workspace()), name).unwrap(), profile);
            assert_eq!(Profile::load(None, name).unwrap(), profile);
        }
    }

    #[test]
    fn every_number_of_a_profile_arrives() {
        let uplink = "rate_kbit_per_s = 5.47\nburst_bytes = 1\nqueue_ms = 2.5\n\
                      min_frame_bytes = 3\noverhead_bytes = 4\ndelay_ms = 50\njitter_ms = 6\n\
                      reorder = true\nloss_percent = 7\nmean_loss_burst_frames = 8\n\
                      duplicate_percent = 9\ncorrupt_percent = 10";
        let expected = Impairment {
            loss: Loss::bursts(0.07, 8.0),
            delay: Duration::from_millis(50),
            jitter: Duration::from_millis(6),
            reorder: true,
            rate: Some(Rate {
                bits_per_s: 5470,
                burst_bytes: 1,
                queue: Queue::Time(Duration::from_micros(2500)),
                min_frame_bytes: 3,
                overhead_bytes: 4,
            }),
            duplicate: 0.09,
            corrupt: 0.1,
        };
        let Profile { link, .. } = parse(uplink).unwrap();
        assert_eq!(
            link,
            Link {
                uplink: expected,
                ..Link::default()
            }
        );
    }

    #[test]
    fn an_error_says_what_to_change() {
        let refused = |uplink: &str, part: &str| {
            let error = parse(uplink).unwrap_err();
            assert!(error.contains("x.toml") && error.contains(part), "{error}");
        };
        refused(
            "los_percent = 1",
            "line 5, column 1: there is no key `los_percent` here: did you mean `loss_percent`?",
        );
        refused("delay_ms = -1", "`delay_ms` is -1: give a number from 0");
        refused("delay_ms = nan", "`delay_ms` is nan: give a number");
        refused("jitter_ms = 1", "lower the jitter");
        refused("loss_percent = 101", "give a number from 0 to 100");
        refused("rate_kbit_per_s = 0", "give a number above 0");
        refused("rate_kbit_per_s = nan", "give a number above 0");
        refused(
            "delay_ms = \"10\"",
            "`delay_ms` is \"10\": give a number from 0, without quotes",
        );
        refused("queue_ms = 1", "without rate_kbit_per_s");
        refused(
            "rate_kbit_per_s = 1\nqueue_ms = 1\nqueue_bytes = 1",
            "not both",
        );
        refused("rate_kbit_per_s = 0.001", "a rate of 1 bit/s");
    }

    #[test]
    fn both_directions_must_be_there() {
        let error = Profile::parse(&format!("{HEAD}[uplink]\n"), "x.toml").unwrap_err();
        assert!(
            error.to_string().contains("`downlink` is missing"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_added_and_takes_the_place_of_what_is_built_in() {
        let root = tempfile::tempdir().unwrap();
        let links = root.path().join("links");
        std::fs::create_dir(&links).unwrap();
        let write = |file: &str, name: &str| {
            let text = format!("{}[uplink]\n[downlink]\n", HEAD.replace('x', name));
            std::fs::write(links.join(file), text).unwrap();
        };
        write("mine.v2.toml", "mine.v2");
        write("wifi.toml", "wifi");
        write("other.toml", "misnamed");
        let load = |name: &str| Profile::load(Some(root.path()), name);
        assert_eq!(load("mine.v2").unwrap().link, Link::default());
        assert_eq!(load("wifi").unwrap().link, Link::default());
        assert!(load("lte-m").unwrap().link != Link::default());
        let error = load("other").unwrap_err().to_string();
        assert!(
            error.contains("misnamed") && error.contains("name it as its file"),
            "{error}"
        );
        assert!(known(Some(root.path())).contains(&"mine.v2".to_owned()));
        let path = links.join("other.toml");
        assert_eq!(load(path.to_str().unwrap()).unwrap().name, "misnamed");
    }

    #[test]
    fn a_link_that_is_not_there_names_those_that_are() {
        let error = Profile::load(Some(&workspace()), "carrier-pigeon")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("carrier-pigeon") && error.contains("nb-iot"),
            "{error}"
        );
        assert!(Profile::load(Some(&workspace()), "./nowhere.toml").is_err());
        // A name is no way out of the folder.
        assert!(Profile::load(Some(&workspace()), "..").is_err());
    }
}
