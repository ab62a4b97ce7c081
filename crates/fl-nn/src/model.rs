//! A model is a shape and an activation; its parameters belong to the caller.

use crate::activation::Activation;
use crate::dense;
use crate::shape::Shape;

/// A dense model without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    shape: Shape,
    activation: Activation,
}

impl Model {
    /// A model of `shape` with `activation` on its hidden layers.
    pub fn new(shape: Shape, activation: Activation) -> Self {
        Self { shape, activation }
    }

    /// Its layer sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What its hidden units do.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Sum of the sizes of all layers but the input: the outputs of one example.
    pub(crate) fn num_outputs(&self) -> usize {
        self.shape.layers().map(|layer| layer.d_out).sum()
    }

    /// Turns the weighted sums of the first layer into the logits, layer by layer.
    ///
    /// # Shapes
    /// `outputs`: `[num_outputs]`, layer after layer. On entry the first layer's part holds its sums; on
    /// return hidden parts hold what the units put out, and the last part holds the logits.
    pub(crate) fn finish_forward(&self, params: &[f32], outputs: &mut [f32]) {
        let mut begin = 0;
        for layer in self.shape.layers().skip(1) {
            let (before, after) = outputs.split_at_mut(begin + layer.d_in);
            let inputs = &mut before[begin..];
            self.activation.apply(inputs);
            dense::forward(&params[layer.params()], inputs, &mut after[..layer.d_out]);
            begin += layer.d_in;
        }
    }
}
