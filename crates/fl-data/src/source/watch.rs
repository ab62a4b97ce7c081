//! The watch recordings of seglearn as tables of features.
//!
//! The file is a NumPy array that holds a Python object, in pickle's protocol 2. Nothing of it is executed: the reader
//! knows how long each of pickle's codes is, and takes the arrays and the names out from between them. Anything that it
//! does not know is refused.
//!
//! A recording has six columns (acceleration and turning, 50 times a second) and is of one subject and one exercise. It
//! is cut into windows. A window has five features a column: mean, standard deviation, least, most, and mean absolute
//! change from one sample to the next.

use std::fmt::Write;

/// Columns of a recording.
const CHANNELS: [&str; 6] = ["ax", "ay", "az", "wx", "wy", "wz"];

/// Features of a column.
const FEATURES: [&str; 5] = ["mean", "std", "min", "max", "change"];

/// Share of a recording, from its beginning, whose windows are for training.
const TRAINED: f64 = 0.8;

/// Samples of a window, and samples from the beginning of one to that of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Samples of a window.
    pub length: usize,
    /// Samples from one to the next.
    pub step: usize,
}

impl Default for Windows {
    /// Two seconds, half of them shared with the next.
    fn default() -> Self {
        Self {
            length: 100,
            step: 50,
        }
    }
}

/// Makes the tables for training and for testing, in CSV with the columns `client` and `label`. Windows for testing are
/// from the last fifth of each recording and share no sample with those for training.
///
/// # Errors
/// Words for people, if the file is another one.
pub fn watch_tables(npy: &[u8], windows: Windows) -> Result<[String; 2], String> {
    let found =
        Recordings::read(npy).ok_or("it is not the file of recordings of seglearn 1.2.5")?;
    let mut head = "client,label".to_owned();
    for channel in CHANNELS {
        for feature in FEATURES {
            let _ = write!(head, ",{channel}_{feature}");
        }
    }
    head.push('\n');
    let mut tables = [head.clone(), head];
    for recording in &found.recordings {
        let end = (recording.rows() as f64 * TRAINED) as usize;
        for (table, (from, to)) in tables.iter_mut().zip([(0, end), (end, recording.rows())]) {
            let starts = (from..to).step_by(windows.step.max(1));
            for start in starts.take_while(|start| start + windows.length <= to) {
                let _ = write!(
                    table,
                    "{},{}",
                    recording.subject, found.classes[recording.class]
                );
                for channel in 0..CHANNELS.len() {
                    let window = &recording.channel(channel)[start..start + windows.length];
                    for value in features(window) {
                        let _ = write!(table, ",{}", value as f32);
                    }
                }
                table.push('\n');
            }
        }
    }
    Ok(tables)
}

/// The features of a column in a window, which is not empty.
fn features(window: &[f64]) -> [f64; FEATURES.len()] {
    let count = window.len().max(1) as f64;
    let mean = window.iter().sum::<f64>() / count;
    let squares: f64 = window
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum();
    let change: f64 = window
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .sum();
    let (least, most) = window
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |found, &value| {
            (found.0.min(value), found.1.max(value))
        });
    let changes = window.len().saturating_sub(1).max(1) as f64;
    [
        mean,
        libm::sqrt(squares / count),
        least,
        most,
        change / changes,
    ]
}

struct Recordings {
    recordings: Vec<Recording>,
    classes: Vec<String>,
}

struct Recording {
    subject: i64,
    class: usize,
    /// `[CHANNELS, rows]`.
    values: Vec<f64>,
}

impl Recording {
    fn rows(&self) -> usize {
        self.values.len() / CHANNELS.len()
    }

    fn channel(&self, channel: usize) -> &[f64] {
        let rows = self.rows();
        &self.values[channel * rows..(channel + 1) * rows]
    }
}

impl Recordings {
    fn read(npy: &[u8]) -> Option<Self> {
        let end = npy
            .iter()
            .take(MAX_HEADER)
            .position(|&octet| octet == b'\n')?;
        let mut reader = Pickle {
            rest: npy.get(end + 1..)?,
        };
        let (mut series, mut subjects, mut labels, mut classes) = (vec![], vec![], vec![], vec![]);
        let (mut key, mut shape, mut numbers) = (String::new(), None, Vec::new());
        let mut is_by_column = false;
        loop {
            match reader.next()? {
                Code::Number(number) => numbers.push(number),
                Code::Tuple(count) => {
                    let start = numbers.len().checked_sub(count);
                    shape = start.map(|start| numbers.split_off(start)).or(shape);
                    numbers.clear();
                }
                Code::Flag(flag) => is_by_column = flag,
                Code::Text(text) if KEYS.contains(&text) => text.clone_into(&mut key),
                Code::Text(text) => {
                    let size = shape.as_deref().and_then(size_of);
                    let octets = size.and_then(|size| octets(text, size));
                    match (key.as_str(), octets) {
                        ("X", Some(octets)) if is_by_column => series.push(numbers_of(&octets)),
                        ("y", Some(octets)) if labels.is_empty() => labels = numbers_of(&octets),
                        ("subject", Some(octets)) if subjects.is_empty() => {
                            subjects = numbers_of(&octets);
                        }
                        ("y_labels", None) => classes.push(text.to_owned()),
                        _ => {}
                    }
                }
                Code::Other => {}
                Code::End => break,
            }
        }
        let whole = series.len() == labels.len() && series.len() == subjects.len();
        let recordings = series.into_iter().zip(labels).zip(subjects);
        let recording = |((values, class), subject): ((Vec<u64>, u64), u64)| {
            let class = usize::try_from(class)
                .ok()
                .filter(|&class| class < classes.len())?;
            let values: Vec<f64> = values.into_iter().map(f64::from_bits).collect();
            let usable =
                values.len().is_multiple_of(CHANNELS.len()) && values.iter().all(|v| v.is_finite());
            usable.then_some(Recording {
                subject: subject as i64,
                class,
                values,
            })
        };
        let recordings: Vec<_> = recordings.map(recording).collect::<Option<_>>()?;
        (whole && !recordings.is_empty()).then_some(Self {
            recordings,
            classes,
        })
    }
}

/// Most octets before the object.
const MAX_HEADER: usize = 4096;

/// Keys of the object.
const KEYS: [&str; 6] = ["X", "y", "y_labels", "subject", "side", "X_labels"];

/// Octets of an array of 64-bit numbers of this shape, if it is one.
fn size_of(shape: &[u32]) -> Option<usize> {
    let product = shape
        .iter()
        .try_fold(8_usize, |size, &dim| size.checked_mul(dim as usize));
    product.filter(|&size| size > 0 && !shape.is_empty())
}

/// A text of so many characters below 256 as octets.
fn octets(text: &str, size: usize) -> Option<Vec<u8>> {
    if text.len() < size || text.len() > 2 * size {
        return None;
    }
    let octets: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    octets.filter(|octets| octets.len() == size)
}

fn numbers_of(octets: &[u8]) -> Vec<u64> {
    let (words, _) = octets.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// The codes of a pickle, one after the other.
struct Pickle<'a> {
    rest: &'a [u8],
}

enum Code<'a> {
    Number(u32),
    Text(&'a str),
    /// A tuple of so many things before it.
    Tuple(usize),
    Flag(bool),
    Other,
    End,
}

impl<'a> Pickle<'a> {
    /// The next code; none for one that is unknown or cut off.
    fn next(&mut self) -> Option<Code<'a>> {
        let code = self.take(1)?[0];
        Some(match code {
            b'.' => Code::End,
            b'K' => Code::Number(self.take(1)?[0].into()),
            b'M' => Code::Number(u16::from_le_bytes(self.take(2)?.try_into().ok()?).into()),
            b'X' => {
                let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
                Code::Text(str::from_utf8(self.take(length as usize)?).ok()?)
            }
            0x85 => Code::Tuple(1),
            0x86 => Code::Tuple(2),
            0x88 => Code::Flag(true),
            0x89 => Code::Flag(false),
            // A name of Python's, which is left alone.
            b'c' => {
                for _ in 0..2 {
                    let end = self.rest.iter().position(|&octet| octet == b'\n')?;
                    self.take(end + 1)?;
                }
                Code::Other
            }
            0x80 | b'q' | b'h' => self.other(1)?,
            b'J' | b'r' | b'j' => self.other(4)?,
            b'(' | b')' | b']' | b'}' | b't' | b'R' | b'b' | b'N' | b'e' | b'a' | b'u' | 0x87 => {
                Code::Other
            }
            _ => return None,
        })
    }

    fn other(&mut self, octets: usize) -> Option<Code<'a>> {
        self.take(octets).map(|_| Code::Other)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(of: &str) -> Vec<u8> {
        [b"X", &(of.len() as u32).to_le_bytes()[..], of.as_bytes()].concat()
    }

    fn array(shape: &[u8], words: &[u64]) -> Vec<u8> {
        let octets: String = words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .map(char::from)
            .collect();
        let mut codes: Vec<u8> = shape.iter().flat_map(|&dim| [b'K', dim]).collect();
        codes.push(0x84 + shape.len() as u8);
        codes.push(if shape.len() == 2 { 0x88 } else { 0x89 });
        [codes, text(&octets)].concat()
    }

    /// Two recordings of ten samples, which rise by the channel's number.
    fn npy() -> Vec<u8> {
        let rising = (0..6).flat_map(|channel| (0..10).map(move |at| f64::from(channel * at)));
        let words: Vec<u64> = rising.map(f64::to_bits).collect();
        let series = array(&[10, 6], &words);
        [
            &b"\x93NUMPY header\n\x80\x02cos\nsystem\nq\x00]}("[..],
            &text("X"),
            &series,
            &series,
            &text("y_labels"),
            &text("PEN"),
            &text("ABD"),
            &text("y"),
            &array(&[2], &[1, 0]),
            &text("subject"),
            &array(&[2], &[7, 3]),
            &text("side"),
            &array(&[2], &[0, 0]),
            b".",
        ]
        .concat()
    }

    #[test]
    fn recordings_become_windows_with_features() {
        let windows = Windows { length: 4, step: 2 };
        let [train, test] = watch_tables(&npy(), windows).unwrap();
        let rows: Vec<&str> = train.lines().collect();
        assert!(rows[0].starts_with("client,label,ax_mean,ax_std"));
        // Eight samples make windows from 0, 2 and 4.
        assert_eq!(rows.len(), 1 + 2 * 3);
        let ay = "1.5,1.118034,0,3,1";
        assert!(
            rows[1].starts_with("7,ABD,0,0,0,0,0,") && rows[1].contains(ay),
            "{}",
            rows[1]
        );
        assert!(rows[4].starts_with("3,PEN,"));
        assert_eq!(
            test.lines().count(),
            1,
            "two samples make no window of four"
        );
        let windows = Windows { length: 2, step: 2 };
        assert_eq!(watch_tables(&npy(), windows).unwrap()[1].lines().count(), 3);
    }

    #[test]
    fn a_file_that_is_cut_or_has_unknown_codes_is_refused() {
        let whole = npy();
        for len in 0..whole.len() {
            assert!(
                watch_tables(&whole[..len], Windows::default()).is_err(),
                "{len}"
            );
        }
        let other = [&whole[..whole.len() - 1], b"i."].concat();
        assert!(watch_tables(&other, Windows::default()).is_err());
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(at in 0_usize..600, octet: u8, length in 0_usize..12, step in 0_usize..12) {
            let mut npy = npy();
            let at = at % npy.len();
            npy[at] = octet;
            let _: Result<_, String> = watch_tables(&npy, Windows { length, step });
        }
    }
}
