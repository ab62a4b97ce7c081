//! Lines of the run's log.

use super::{panel, title};
use crate::tui::app::App;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Stylize;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

/// The log, as scrolled.
pub fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let back = app.scrolled;
    let mut head = "Log".to_owned();
    if back > 0 {
        head += &format!(", {back} lines back");
    }
    if app.log.dropped() > 0 {
        head += &format!(", {} older lines not kept", app.log.dropped());
    }
    last(frame, area, app, back, &head);
}

/// The end of the log, as far as there is room.
pub fn end(frame: &mut Frame<'_>, area: Rect, app: &App) {
    last(frame, area, app, 0, "Log");
}

fn last(frame: &mut Frame<'_>, area: Rect, app: &App, back: usize, head: &str) {
    let (width, height) = (area.width.saturating_sub(2), area.height.saturating_sub(2));
    let mut room = usize::from(height);
    let mut lines = Vec::new();
    for text in app.log.kept().rev().skip(back) {
        let line = line(text);
        let rows = wrapped(&line, width);
        if rows > room {
            break;
        }
        room -= rows;
        lines.push(line);
    }
    lines.reverse();
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(panel(title(head))), area);
}

/// Number of rows of a line; words are not broken, so it may be one more than its width says.
fn wrapped(line: &Line<'_>, width: u16) -> usize {
    let width = usize::from(width.max(1));
    match line.width() {
        0 => 1,
        fits if fits <= width => 1,
        long => long.div_ceil(width.saturating_sub(8).max(1)),
    }
}

fn line(text: &str) -> Line<'static> {
    let line = Line::from(text.to_owned());
    if text.starts_with("warning:") {
        line.yellow()
    } else if text.starts_with("error:") {
        line.red()
    } else {
        line
    }
}
