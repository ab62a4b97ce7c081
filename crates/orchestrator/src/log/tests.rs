use super::*;
use std::path::Path;

fn log() -> DeviceLog {
    DeviceLog::new(None, Instant::now())
}

#[test]
fn lines_are_whole_however_they_arrive() {
    let mut log = log();
    assert!(log.feed(b"boo").is_empty());
    assert_eq!(log.feed(b"ted\r\nready\r\nzfl:~$ "), ["booted", "ready"]);
    assert_eq!(log.partial(), "zfl:~$ ");
}

#[test]
fn colours_and_control_characters_are_left_out() {
    let mut log = log();
    assert_eq!(
        log.feed(b"\x1b[1;31mred\x1b[0m\x07 \xff\x1bcend\n"),
        ["red \u{fffd}end"]
    );
    log.feed(b"\x1b[12");
    assert_eq!(log.feed(b";3Hthere\n"), ["there"]);
    assert_eq!(log.feed(b"\x1b[1\nnext\n"), ["", "next"]);
}

#[test]
fn control_characters_of_more_than_a_byte_are_left_out_however_they_arrive() {
    let mut log = log();
    log.feed(b"a\xc2");
    assert_eq!(log.feed(b"\x9b31mred\n"), ["a31mred"]);
    assert_eq!(
        log.feed("b\u{85}c\u{202e}d\u{2028}e\tf\n".as_bytes()),
        ["bcde\tf"]
    );
    // An escape sequence within a character: both halves meet when it is gone.
    assert_eq!(log.feed(b"g\xc2\x1b[1m\x9bh\n"), ["gh"]);
    log.feed("uart\u{9b}:~$ ".as_bytes());
    assert_eq!(log.partial(), "uart:~$ ");
    log.feed(b"\n");
    let notes = tempfile::tempdir().unwrap();
    let path = notes.path().join("7.log");
    let mut log = DeviceLog::create(appended(&path), Instant::now()).unwrap();
    log.note("died: \u{9b}2J\nwarning: fake");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("] -- died:  2J warning: fake\n"), "{text}");
}

#[test]
fn a_secret_is_not_written_down() {
    let secret: Word = "correct-horse-battery".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("7.log");
    let mut log = DeviceLog::create(File::create(&path).unwrap(), Instant::now()).unwrap();
    log.keep_secret(secret);
    // Whoever typed it looks for the echo.
    let echo = log.feed(b"zfl:~$ run secret=correct-horse-battery client=7\n");
    assert_eq!(echo, ["zfl:~$ run secret=correct-horse-battery client=7"]);
    log.note("it did not read `run secret=correct-horse-battery`");
    assert_eq!(log.last_lines(), ["zfl:~$ run secret=... client=7"]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("horse") && text.contains("`run secret=...`"),
        "{text}"
    );
}

#[test]
fn a_flood_is_bounded() {
    let mut log = log();
    let lines = log.feed(&[b'x'; 100_000]);
    assert_eq!(lines.len(), 100);
    assert_eq!(log.last_lines().len(), KEPT_LINES);
}

#[test]
fn the_file_has_times_and_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("7.log");
    let mut log = DeviceLog::create(appended(&path), Instant::now()).unwrap();
    log.feed(b"hello\npartial");
    log.note("killed");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("[") && lines[0].ends_with("] hello"),
        "{text}"
    );
    assert!(
        lines[1].ends_with("] partial") && lines[2].ends_with("] -- killed"),
        "{text}"
    );

    log.file_bytes = MAX_FILE_BYTES;
    log.feed(b"one too many\n");
    log.feed(b"and more\n");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("its log ends here\n"), "{text}");
    let told = log.take_error().expect("it is told");
    assert_eq!(told.to_string(), "it ends at 16 MiB");
    log.feed(b"and more\n");
    assert!(log.take_error().is_none(), "once");
}

fn appended(path: &Path) -> File {
    let mut options = File::options();
    let options = options.read(true).append(true).create(true);
    options.open(path).unwrap()
}

fn resume(path: &Path, before_s: u64) -> DeviceLog {
    let before = Duration::from_secs(before_s);
    DeviceLog::resume(
        appended(path),
        Instant::now(),
        before,
        "resumed after round 4",
    )
    .unwrap()
}

#[test]
fn a_log_goes_on_behind_a_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("7.log");
    let mut first = DeviceLog::create(appended(&path), Instant::now()).unwrap();
    first.feed(b"before\n");
    // What a kill may leave of a line.
    first.append("[    0.0");
    let mut second = resume(&path, 3600);
    second.feed(b"after\n");
    drop(second);
    resume(&path, 7200);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let parts = [
        ("[    0.", "] before"),
        ("[    0.0", ""),
        ("[ 36", "] -- resumed after round 4"),
        ("[ 36", "] after"),
        ("[ 72", "] -- resumed after round 4"),
    ];
    assert_eq!(lines.len(), parts.len(), "{text}");
    for (line, (start, end)) in lines.iter().zip(parts) {
        assert!(line.starts_with(start) && line.ends_with(end), "{text}");
    }
}

#[test]
fn the_log_of_a_device_that_is_new_begins_with_the_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("8.log");
    resume(&path, 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with('[') && text.lines().count() == 1, "{text}");
}

#[test]
fn all_parts_of_a_log_together_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("9.log");
    let file = File::create(&path).unwrap();
    file.set_len(MAX_FILE_BYTES - 200).unwrap();
    let mut log = resume(&path, 0);
    log.feed(&[b'x'; 500]);
    log.feed(b"\nand more\n");
    let full = std::fs::read(&path).unwrap();
    assert!(full.ends_with(FULL.as_bytes()), "{}", full.len());
    assert!(full.len() as u64 <= MAX_FILE_BYTES + FULL.len() as u64);
    // There is room for less than the line that was too long, and nothing comes behind the end.
    resume(&path, 0).feed(b"short\n");
    assert_eq!(std::fs::read(&path).unwrap(), full);
}

#[test]
fn a_log_in_a_folder_is_written_once_its_device_has_trained() {
    let folder = tempfile::tempdir().unwrap();
    let logs = LogFolder {
        dir: Dir::open(folder.path()).unwrap(),
        started: Instant::now(),
        resumed: None,
    };
    let text = || std::fs::read_to_string(folder.path().join("3.log")).unwrap_or_default();
    let mut log = DeviceLog::in_folder(logs.into(), 3);
    log.line("joined");
    log.save_if_trained();
    assert_eq!(text(), "");
    log.has_trained();
    log.line("round 1");
    log.save_if_old();
    assert_eq!(text(), "", "it is not old");
    std::thread::sleep(LONGEST_WAIT);
    log.save_if_old();
    assert_eq!(text().lines().count(), 2);
    log.line("delivered");
    log.save_if_old();
    assert_eq!(
        text().lines().count(),
        2,
        "what waits now does not do so for long"
    );
    log.save_if_trained();
    assert_eq!(text().lines().count(), 3);
}

#[test]
fn a_full_disk_is_told_once_and_the_lines_are_kept() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut log = DeviceLog::new(Some(Sink::Open(full)), Instant::now());
    log.feed(b"one\ntwo\n");
    assert_eq!(log.take_error().unwrap().kind(), io::ErrorKind::StorageFull);
    assert!(log.take_error().is_none());
    assert_eq!(log.last_lines(), ["one", "two"]);
}
