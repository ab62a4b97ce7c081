//! State of the screen, and the effect of keys.

use super::serial::Serial;
use crate::terminal::text::clean;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;
use zfl_run_dir::Fold;
use zfl_run_dir::fold::{Changes, Device};

/// Lines of the log that are kept, the newest.
const MAX_LOG: usize = 1000;

/// The views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// Curves, rounds, and the log's end.
    #[default]
    Run,
    /// The devices, one of them in full.
    Fleet,
    /// The log.
    Log,
}

impl Tab {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Run, Self::Fleet, Self::Log];

    /// Name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "Run",
            Self::Fleet => "Fleet",
            Self::Log => "Log",
        }
    }

    fn next(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

/// Effect of a key beyond the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEffect {
    /// To leave the screen.
    Leave,
    /// To stop the run.
    Stop,
    /// To stand still, with the run, and give the terminal to the shell.
    Suspend,
}

/// The lines that the run said, the newest.
#[derive(Debug, Default)]
pub struct Log {
    lines: VecDeque<String>,
    /// Lines that were too old to keep.
    dropped: usize,
    changed: bool,
}

impl Log {
    /// Adds a line.
    pub fn push(&mut self, line: &str) {
        if self.lines.len() == MAX_LOG {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(clean(line));
        self.changed = true;
    }

    /// Those that are kept, the oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.lines.iter().map(String::as_str)
    }

    /// Lines that were too old to keep.
    pub fn dropped(&self) -> usize {
        self.dropped
    }
}

/// Everything that the screen shows.
#[derive(Debug)]
pub struct App {
    /// State of the run.
    pub fold: Fold,
    /// Its directory.
    pub run: PathBuf,
    /// True if this screen may stop the run.
    pub owned: bool,
    /// The view.
    pub tab: Tab,
    /// The device that is shown in full.
    pub selected: u32,
    /// Devices in a row of the grid, as last drawn.
    pub columns: u32,
    /// Choice of serial lines; without a choice it depends on the room.
    pub wants_serial: Option<bool>,
    /// True if they were shown when last drawn.
    pub shows_serial: bool,
    /// The selected device's serial lines.
    pub serial: Serial,
    /// Lines of the run's log.
    pub log: Log,
    /// Lines by which the log is scrolled back.
    pub scrolled: usize,
    /// True while the keys are explained.
    pub help: bool,
    /// True if the run was asked to stop.
    pub stopping: bool,
    /// Time at which the newest event was read; the clock stands still without.
    heard: Option<Instant>,
    shown_second: u64,
    touched: bool,
}

impl App {
    /// Nothing has happened yet.
    pub fn new(fold: Fold, run: &Path, owned: bool) -> Self {
        Self {
            fold,
            run: run.to_owned(),
            owned,
            tab: Tab::Run,
            selected: 0,
            columns: 1,
            wants_serial: None,
            shows_serial: false,
            serial: Serial::default(),
            log: Log::default(),
            scrolled: 0,
            help: false,
            stopping: false,
            heard: None,
            shown_second: 0,
            touched: true,
        }
    }

    /// The time of the run, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        let since = self.heard.map_or(0, |heard| heard.elapsed().as_millis());
        self.fold.time_ms() + since as u64
    }

    /// Notes that so many events were read just now.
    pub fn took_in(&mut self, events: usize) {
        if events > 0 {
            self.heard = Some(Instant::now());
        }
    }

    /// Reads the selected device's serial lines on, if they are shown.
    pub fn refresh_serial(&mut self) {
        if self.shows_serial && self.serial.refresh(&self.run, self.selected) {
            self.touched = true;
        }
    }

    /// True if a new picture would differ, since this was last asked.
    pub fn is_changed(&mut self) -> bool {
        let second = self.now_ms() / 1000;
        let ticks = !self.fold.is_over() && second != self.shown_second;
        self.shown_second = second;
        let touched = std::mem::take(&mut self.touched);
        let told = std::mem::take(&mut self.log.changed);
        self.fold.take_changes() != Changes::default() || ticks || touched || told
    }

    /// The selected device.
    pub fn device(&self) -> Option<&Device> {
        self.fold.device(self.selected)
    }

    /// Does what an event of the terminal asks for.
    pub fn on_event(&mut self, event: &Event) -> Option<KeyEffect> {
        self.touched = true;
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.on_key(*key),
            _ => None,
        }
    }

    fn on_key(&mut self, key: KeyEvent) -> Option<KeyEffect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if matches!(key.code, KeyCode::Char('q')) || (control && key.code == KeyCode::Char('c')) {
            return Some(self.quit());
        }
        if control && key.code == KeyCode::Char('z') {
            return Some(KeyEffect::Suspend);
        }
        if std::mem::take(&mut self.help) {
            return None;
        }
        match key.code {
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Tab => self.tab = self.tab.next(1),
            KeyCode::BackTab => self.tab = self.tab.next(Tab::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='3') => {
                self.tab = Tab::ALL[digit as usize - '1' as usize];
            }
            KeyCode::Char('l') => self.toggle_serial(),
            code if self.tab == Tab::Log => self.scroll(code),
            code => self.select(code),
        }
        None
    }

    fn quit(&mut self) -> KeyEffect {
        if !self.owned {
            return KeyEffect::Leave;
        }
        self.stopping = true;
        KeyEffect::Stop
    }

    fn toggle_serial(&mut self) {
        self.wants_serial = Some(self.tab != Tab::Fleet || !self.shows_serial);
        self.tab = Tab::Fleet;
    }

    fn scroll(&mut self, code: KeyCode) {
        let most = self.log.kept().len().saturating_sub(1);
        self.scrolled = match code {
            KeyCode::Up => self.scrolled + 1,
            KeyCode::Down => self.scrolled.saturating_sub(1),
            KeyCode::PageUp => self.scrolled + 10,
            KeyCode::PageDown => self.scrolled.saturating_sub(10),
            KeyCode::Home => most,
            KeyCode::End => 0,
            _ => return,
        }
        .min(most);
    }

    fn select(&mut self, code: KeyCode) {
        let Some(last) = self.fold.devices().last().map(|device| device.client) else {
            return;
        };
        let (at, columns) = (self.selected, self.columns);
        let wanted = match code {
            KeyCode::Left => at.checked_sub(1),
            KeyCode::Right => at.checked_add(1),
            KeyCode::Up => at.checked_sub(columns),
            KeyCode::Down => at.checked_add(columns),
            KeyCode::Home => Some(0),
            KeyCode::End => Some(last),
            _ => None,
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted <= last) {
            self.selected = wanted;
        }
    }
}
