//! The fleet: a cell per device, and one device in full.

use super::{device, panel, title};
use crate::tui::app::App;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use std::collections::BTreeMap;
use zfl_run_dir::fold::{Device, State};

/// Rows from which on serial lines are shown without being asked for.
const TALL: u16 = 28;

/// Draws the view.
pub fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    app.shows_serial = app.wants_serial.unwrap_or(area.height >= TALL);
    let lower = if app.shows_serial {
        area.height * 9 / 20
    } else {
        0
    };
    let [upper, lower] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(lower)]).areas(area);
    let facts = if area.width >= 110 { 44 } else { 32 };
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(facts)]).areas(upper);
    grid(frame, left, app);
    device::facts(frame, right, app);
    if app.shows_serial {
        app.refresh_serial();
        device::serial(frame, lower, app);
    }
}

/// A letter for a state: capitals are what draws attention.
pub fn letter(state: State) -> Span<'static> {
    let (letter, style) = match state {
        State::Joining => ("j", Style::new().dark_gray()),
        State::Booting => ("b", Style::new().blue()),
        State::Ready => ("r", Style::new()),
        State::Training => ("T", Style::new().cyan()),
        State::Sending => ("S", Style::new().light_cyan()),
        State::Done => ("d", Style::new().green()),
        State::Failed => ("F", Style::new().yellow().bold()),
        State::Away => ("A", Style::new().magenta().bold()),
        State::Dead => ("X", Style::new().fg(Color::Red).bold()),
    };
    Span::styled(letter, style)
}

/// Size of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Number, letter and percentage.
    Wide,
    /// Letter and a block that fills.
    Middle,
    /// A letter, with a gap after every tenth.
    Narrow,
    /// A letter.
    Dense,
}

impl Size {
    /// Number of cells in a row of this width.
    fn columns(self, width: usize) -> usize {
        let columns = match self {
            Self::Wide => width / 11,
            Self::Middle => width / 3 / 5 * 5,
            Self::Narrow => (width + 1) / 11 * 10,
            Self::Dense => width / 10 * 10,
        };
        columns.max(1)
    }
}

/// The cells of all devices, as large as there is room for.
pub fn grid(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let counts = counts(app);
    let legend_width = usize::from(area.width.saturating_sub(4)).max(1);
    let legend_rows = counts
        .width()
        .div_ceil(legend_width.saturating_sub(8).max(1)) as u16;
    let block = panel(title("Fleet"));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [cells, legend] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(legend_rows.min(3))])
            .areas(inner);
    frame.render_widget(Paragraph::new(counts).wrap(Wrap { trim: true }), legend);

    let devices: Vec<&Device> = app.fold.devices().collect();
    let (room, digits) = (usize::from(cells.height).max(1), digits(&devices));
    let width = usize::from(cells.width);
    let (size, columns) = [
        (Size::Wide, width),
        (Size::Middle, width.saturating_sub(digits + 2)),
        (Size::Narrow, width.saturating_sub(digits + 2)),
        (Size::Dense, width.saturating_sub(digits + 2)),
    ]
    .map(|(size, width)| (size, size.columns(width)))
    .into_iter()
    .find(|(size, columns)| *size == Size::Dense || devices.len().div_ceil(*columns) <= room)
    .unwrap_or((Size::Dense, 1));

    let selected = devices
        .iter()
        .position(|device| device.client == app.selected)
        .unwrap_or(0);
    // As many rows are passed over as it takes to have the selected one on the screen.
    let above = (selected / columns + 1).saturating_sub(room);
    let rows = devices.chunks(columns).skip(above).take(room);
    let lines: Vec<_> = rows
        .map(|row| line(row, size, digits, app.selected))
        .collect();
    frame.render_widget(Paragraph::new(lines), cells);
    app.columns = columns as u32;
}

fn digits(devices: &[&Device]) -> usize {
    devices
        .last()
        .map_or(1, |device| device.client.to_string().len())
}

fn line(row: &[&Device], size: Size, digits: usize, selected: u32) -> Line<'static> {
    let mut parts = Vec::new();
    if size != Size::Wide
        && let Some(first) = row.first()
    {
        parts.push(Span::from(format!(" {:>digits$} ", first.client)).dark_gray());
    }
    for (number, device) in (1..).zip(row) {
        let is_selected = device.client == selected;
        parts.extend(cell(device, size, is_selected));
        if size == Size::Narrow && number % 10 == 0 {
            parts.push(Span::from(" "));
        }
    }
    Line::from(parts)
}

fn cell(device: &Device, size: Size, is_selected: bool) -> Vec<Span<'static>> {
    let letter = letter(device.state);
    let marked = |span: Span<'static>| {
        if is_selected { span.reversed() } else { span }
    };
    match size {
        Size::Wide => {
            let mark = if is_selected { "›" } else { " " };
            let number = Span::from(format!("{mark}{:>4} ", device.client));
            let percent = percent(device).map_or(String::new(), |percent| format!("{percent}%"));
            let more = Span::from(format!("{percent:>4}")).style(letter.style);
            vec![marked(number), marked(letter), marked(more)]
        }
        Size::Middle => {
            let part = Span::from(block(device)).style(letter.style);
            vec![marked(letter), part, Span::from(" ")]
        }
        Size::Narrow | Size::Dense => vec![marked(letter)],
    }
}

/// Progress of a device's training, if it trains.
pub fn percent(device: &Device) -> Option<u32> {
    (device.state == State::Training && device.total_examples > 0).then(|| {
        let part = u64::from(device.done_examples) * 100 / u64::from(device.total_examples);
        part.min(100) as u32
    })
}

fn block(device: &Device) -> &'static str {
    const EIGHTHS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    percent(device).map_or(" ", |percent| EIGHTHS[(percent as usize * 7 / 100).min(7)])
}

/// Number of devices in each state; the legend, too.
fn counts(app: &App) -> Line<'static> {
    let mut counts = BTreeMap::<State, u32>::new();
    for device in app.fold.devices() {
        *counts.entry(device.state).or_default() += 1;
    }
    let mut parts = Vec::new();
    for (state, count) in counts {
        parts.push(Span::from(" "));
        parts.push(letter(state));
        parts.push(Span::from(format!("\u{a0}{}\u{a0}{count} ", state.name())));
    }
    Line::from(parts)
}
