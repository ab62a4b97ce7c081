//! Pixels of a figure, for documents that take no SVG.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

/// Pixels of a PNG to each unit of the SVG: 640 units across a column of 8.5 cm are 573 dots an inch.
const SCALE: f32 = 3.0;

/// DejaVu Sans with Latin, Greek and Cyrillic letters and the usual signs: the same pixels on every machine.
const FONT: &[u8] = include_bytes!("../assets/DejaVuSans.ttf");

/// Draws an SVG as a PNG, three pixels to the unit.
///
/// # Errors
/// If the SVG is none, or is too large to draw.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    let tree = Tree::from_str(svg, &options()).context("read the figure's SVG")?;
    let size = tree.size().to_int_size();
    let size = size.scale_by(SCALE).context("the figure has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).with_context(|| {
        format!(
            "a figure of {} x {} pixels is too large",
            size.width(),
            size.height()
        )
    })?;
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut pixels.as_mut(),
    );
    pixels.encode_png().context("write the PNG")
}

/// Settings under which only the font that is here is used, whatever name a figure asks for.
fn options() -> Options<'static> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let mut fonts = Database::new();
        fonts.load_font_data(FONT.to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        fonts.set_monospace_family("DejaVu Sans");
        Arc::new(fonts)
    });
    Options {
        fontdb: fonts.clone(),
        font_family: "DejaVu Sans".to_owned(),
        ..Options::default()
    }
}
