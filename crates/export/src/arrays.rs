//! The model as arrays that a compiler of Rust or C takes, to the bit.

use crate::model::SavedModel;
use std::fmt::Write;

/// Numbers on a line.
const ON_A_LINE: usize = 8;

/// Words about the model that both languages have as a comment.
fn words(model: &SavedModel) -> String {
    let about = &model.about;
    // It stands in a comment, which nothing in it may end or prolong.
    let plain = |c: &char| c.is_ascii_alphanumeric() || ".-+".contains(*c);
    let version = about.zfl_version.iter().flat_map(|text| text.chars());
    let version: String = version.filter(plain).collect();
    let scale = match about.scaling.as_ref().map(|scaling| scaling.columns.len()) {
        None | Some(0) => "Inputs are octets x and enter as x / 255.".to_owned(),
        Some(columns) => format!(
            "A feature v of the {columns} columns is t = round((v - OFFSETS) / STEPS), held in -255..255; it makes two\n\
             // inputs, max(t, 0) and max(-t, 0), which enter as x / 255."
        ),
    };
    format!(
        "// A model of zfl {} after round {}, seed {}.\n\
         // sha256 of its parameters as little-endian f32: {}\n\
         // {scale}\n\
         // A layer is sums[o] = BIAS[o] + sum over i of inputs[i] * WEIGHT[i * outputs + o]; all but the last are\n\
         // followed by {}. The class is that of the largest output.\n\n",
        version,
        about.round,
        about
            .seed
            .map_or_else(|| "unknown".to_owned(), |seed| seed.to_string()),
        about.sha256,
        about.activation
    )
}

/// Numbers separated by commas, in lines.
fn list<T: std::fmt::Debug>(numbers: &[T], end: &str) -> String {
    let mut text = String::new();
    for line in numbers.chunks(ON_A_LINE) {
        text.push_str("    ");
        for number in line {
            // The shortest that is read back to the same bits; it always has a point or an exponent.
            let _ = write!(text, "{number:?}{end}, ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Arrays of scales: offsets, steps.
fn scales(model: &SavedModel) -> [Vec<f64>; 2] {
    let columns = model
        .about
        .scaling
        .iter()
        .flat_map(|scaling| &scaling.columns);
    let (offsets, steps) = columns.map(|one| (one.offset, one.step)).unzip();
    [offsets, steps]
}

/// A file of Rust.
pub(crate) fn rust(model: &SavedModel) -> Vec<u8> {
    let layers = &model.about.layers;
    let mut text = words(model);
    let _ = writeln!(
        text,
        "pub const LAYERS: [usize; {}] = {layers:?};",
        layers.len()
    );
    let activation = &model.about.activation;
    let _ = writeln!(text, "pub const ACTIVATION: &str = {activation:?};");
    let mut array = |name: &str, of: &str, length: usize, body: String| {
        let _ = write!(
            text,
            "\npub static {name}: [{of}; {length}] = [\n{body}];\n"
        );
    };
    for (layer, (_, _, weights, biases)) in model.layers().enumerate() {
        array(
            &format!("WEIGHT_{layer}"),
            "f32",
            weights.len(),
            list(weights, ""),
        );
        array(
            &format!("BIAS_{layer}"),
            "f32",
            biases.len(),
            list(biases, ""),
        );
    }
    for (name, numbers) in ["OFFSETS", "STEPS"].into_iter().zip(scales(model)) {
        if !numbers.is_empty() {
            array(name, "f64", numbers.len(), list(&numbers, ""));
        }
    }
    text.into_bytes()
}

/// A header of C.
pub(crate) fn c(model: &SavedModel) -> Vec<u8> {
    let layers = &model.about.layers;
    let mut text = words(model);
    text.push_str("#ifndef ZFL_MODEL_H\n#define ZFL_MODEL_H\n\n");
    let count = layers.len() - 1;
    let _ = writeln!(text, "#define ZFL_MODEL_NUM_LAYERS {count}");
    let activation = model.about.activation.to_ascii_uppercase();
    let _ = writeln!(text, "#define ZFL_MODEL_ACTIVATION_{activation} 1");
    let mut array = |name: &str, of: &str, length: usize, body: String| {
        let _ = write!(
            text,
            "\nstatic const {of} zfl_model_{name}[{length}] = {{\n{body}}};\n"
        );
    };
    array("layers", "unsigned int", layers.len(), list(layers, ""));
    for (layer, (_, _, weights, biases)) in model.layers().enumerate() {
        array(
            &format!("weight_{layer}"),
            "float",
            weights.len(),
            list(weights, "f"),
        );
        array(
            &format!("bias_{layer}"),
            "float",
            biases.len(),
            list(biases, "f"),
        );
    }
    for (name, numbers) in ["offsets", "steps"].into_iter().zip(scales(model)) {
        if !numbers.is_empty() {
            array(name, "double", numbers.len(), list(&numbers, ""));
        }
    }
    text.push_str("\n#endif\n");
    text.into_bytes()
}
