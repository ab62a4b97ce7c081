//! The model as safetensors, with the names and shapes of a `torch.nn.Sequential` of linear layers and activations.

use crate::model::{About, SavedModel};
use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// Most of a file, in bytes: the largest model, and what is told about it.
pub(crate) const MAX_BYTES: u64 = 4 * fl_nn::MAX_PARAMS as u64 + (64 << 20);

/// Key of the facts in the metadata: one, since several would come in a random order.
const KEY: &str = "zfl";

/// Place of a linear layer among layers and activations.
fn place(layer: usize) -> usize {
    2 * layer
}

/// The file: `N.weight` `[outputs, inputs]` and `N.bias` `[outputs]`.
pub(crate) fn write(model: &SavedModel) -> Result<Vec<u8>> {
    let mut parts = Vec::new();
    for (layer, (d_in, d_out, weights, biases)) in model.layers().enumerate() {
        let weights = transposed(weights, d_out);
        parts.push((
            format!("{}.weight", place(layer)),
            vec![d_out, d_in],
            octets(weights),
        ));
        let biases = octets(biases.iter().copied());
        parts.push((format!("{}.bias", place(layer)), vec![d_out], biases));
    }
    let views = parts.iter().map(|(name, shape, octets)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), octets)?;
        Ok((name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let about = (KEY.to_owned(), serde_json::to_string(&model.about)?);
    let about = [about].into_iter().collect();
    Ok(safetensors::serialize(views, Some(about))?)
}

/// Reads such a file.
///
/// # Errors
/// If it is another one.
pub(crate) fn read(bytes: &[u8]) -> Result<SavedModel> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let about = metadata
        .metadata()
        .as_ref()
        .and_then(|about| about.get(KEY));
    let missing =
        "it tells nothing about its model: give a run, or a file that `zfl export` has written";
    let about: About = serde_json::from_str(about.context(missing)?).context(missing)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let needed = about.model()?.shape().num_params();
    ensure!(4 * needed <= bytes.len(), "it is too short for its layers");
    let mut params = Vec::with_capacity(needed);
    for (layer, pair) in about.layers.windows(2).enumerate() {
        let (d_in, d_out) = (pair[0], pair[1]);
        let weights = numbers(
            &tensors,
            &format!("{}.weight", place(layer)),
            &[d_out, d_in],
        )?;
        params.extend(transposed(&weights, d_in));
        params.extend(numbers(
            &tensors,
            &format!("{}.bias", place(layer)),
            &[d_out],
        )?);
    }
    SavedModel::of(about, params)
}

fn numbers(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = tensors.tensor(name)?;
    let fits = tensor.dtype() == Dtype::F32 && tensor.shape() == shape;
    ensure!(
        fits,
        "tensor {name} is {:?} {:?}, and its layers need F32 {shape:?}",
        tensor.dtype(),
        tensor.shape()
    );
    let octets = tensor.data().as_chunks::<4>().0.iter();
    Ok(octets.map(|octets| f32::from_le_bytes(*octets)).collect())
}

/// Columns of a matrix of so many columns, one behind the other.
fn transposed(matrix: &[f32], columns: usize) -> impl Iterator<Item = f32> {
    (0..columns).flat_map(move |column| matrix.iter().skip(column).step_by(columns).copied())
}

fn octets(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    numbers.flat_map(f32::to_le_bytes).collect()
}
