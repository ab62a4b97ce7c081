//! Model: layers one behind the other, and an activation; its parameters belong to the caller.

use core::array;
use core::ops::Range;

use crate::activation::Activation;
use crate::layer::Layer;
use crate::shape::{MAX_LAYERS, Shape};

/// A model without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    shape: Shape,
    activation: Activation,
}

/// A layer and its place in the flat parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub layer: Layer,
    /// Weights, then biases.
    pub params: Range<usize>,
}

impl Placed {
    /// The weights alone.
    pub fn weights(&self) -> Range<usize> {
        self.params.start..self.params.start + self.layer.num_weights()
    }
}

/// Layers of a model.
pub(crate) struct PlacedLayers {
    layers: [Placed; MAX_LAYERS],
    count: usize,
}

impl PlacedLayers {
    /// Those behind the first.
    pub fn later(&self) -> &[Placed] {
        self.layers.get(1..self.count).unwrap_or(&[])
    }
}

impl Model {
    /// A model of `shape` with `activation` on its hidden layers.
    pub fn new(shape: Shape, activation: Activation) -> Self {
        Self { shape, activation }
    }

    /// Layer sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Nonlinearity of the hidden units.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The layers, input side first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Placed> + '_ {
        self.shape.layers().scan(0, |start, layer| {
            let params = *start..*start + layer.num_params();
            *start = params.end;
            Some(Placed { layer, params })
        })
    }

    /// All layers, for loops that need them for each example.
    pub(crate) fn placed(&self) -> PlacedLayers {
        PlacedLayers {
            layers: array::from_fn(|index| self.layer(index.min(self.shape.num_layers() - 1))),
            count: self.shape.num_layers(),
        }
    }

    /// The layer that octets enter.
    pub(crate) fn first(&self) -> Placed {
        self.layer(0)
    }

    /// Layer `index`, from 0.
    pub(crate) fn layer(&self, index: usize) -> Placed {
        let below = self.shape.layers().take(index);
        let start: usize = below.map(|layer| layer.num_params()).sum();
        let layer = self.shape.layer(index);
        let params = start..start + layer.num_params();
        Placed { layer, params }
    }

    /// Outputs of all layers for one example.
    pub(crate) fn num_outputs(&self) -> usize {
        self.shape.layers().map(|layer| layer.num_outputs()).sum()
    }

    /// Outputs of the widest layer.
    pub(crate) fn widest(&self) -> usize {
        let widths = self.shape.layers().map(|layer| layer.num_outputs());
        widths.max().unwrap_or(0)
    }

    /// Turns the sums of the first layer into the logits, layer by layer.
    ///
    /// # Shapes
    /// `outputs`: `[num_outputs]`, layer after layer. On entry the first layer's part holds its sums; on
    /// return hidden parts hold the outputs of the units, and the last part holds the logits.
    pub(crate) fn finish_forward(
        &self,
        layers: &PlacedLayers,
        params: &[f32],
        outputs: &mut [f32],
    ) {
        let mut begin = 0;
        for Placed {
            layer,
            params: place,
        } in layers.later()
        {
            let d_in = layer.num_inputs();
            let (before, after) = outputs.split_at_mut(begin + d_in);
            let inputs = &mut before[begin..];
            self.activation.apply(inputs);
            layer.forward(
                &params[place.clone()],
                inputs,
                &mut after[..layer.num_outputs()],
            );
            begin += d_in;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_lie_one_behind_the_other() {
        let model = Model::new(Shape::new(&[784, 16, 10]).unwrap(), Activation::Relu);
        let places: Vec<Placed> = model.layers().collect();
        assert_eq!(places[0], model.first());
        assert_eq!(places[0].weights(), 0..12_544);
        assert_eq!(places[1].weights(), 12_560..12_720);
        assert_eq!(places[1].params, 12_560..12_730);
        assert_eq!((model.num_outputs(), model.widest()), (26, 16));
    }
}
