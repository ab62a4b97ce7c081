//! Shape: the sizes of a model's layers, checked.

use crate::error::ShapeError;
use crate::layer::{Dense, Layer};

/// Most weight layers of a model.
pub const MAX_LAYERS: usize = 8;

/// Widest layer, inputs included.
pub const MAX_WIDTH: usize = 65_535;

/// Most parameters of a model: 1 GiB of f32, so that byte counts fit 32 bits with room for gradients.
pub const MAX_PARAMS: usize = 1 << 28;

/// Layer sizes from the input to the classes, checked once.
///
/// `784, 16, 10` is two weight layers: 784 inputs, 16 hidden units, 10 classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    sizes: [u32; MAX_LAYERS + 1],
    count: u8,
}

impl Shape {
    /// Checks layer sizes, input first and number of classes last.
    ///
    /// # Errors
    /// [`ShapeError`] if there are fewer than two sizes, more than [`MAX_LAYERS`] weight layers, a
    /// size outside `1..=`[`MAX_WIDTH`], or more than [`MAX_PARAMS`] parameters.
    pub fn new(sizes: &[usize]) -> Result<Self, ShapeError> {
        let layers = match sizes.len() {
            n @ 0..=1 => return Err(ShapeError::TooFewSizes(n)),
            n if n > MAX_LAYERS + 1 => return Err(ShapeError::TooManyLayers(n - 1)),
            n => n - 1,
        };
        let mut shape = Self {
            sizes: [0; MAX_LAYERS + 1],
            count: layers as u8 + 1,
        };
        for (position, (slot, &size)) in shape.sizes.iter_mut().zip(sizes).enumerate() {
            if size == 0 || size > MAX_WIDTH {
                return Err(ShapeError::Width { position, size });
            }
            *slot = size as u32;
        }
        // At most 8 layers of less than 2^32 parameters each: no overflow in 64 bits, nor of one layer
        // in 32.
        let params: u64 = shape.layers().map(|layer| layer.num_params() as u64).sum();
        if params > MAX_PARAMS as u64 {
            return Err(ShapeError::TooManyParams);
        }
        Ok(shape)
    }

    /// All sizes, inputs first.
    pub fn sizes(&self) -> &[u32] {
        &self.sizes[..usize::from(self.count)]
    }

    /// Length of the flat parameters.
    pub fn num_params(&self) -> usize {
        self.layers().map(|layer| layer.num_params()).sum()
    }

    /// Octets of one example.
    pub fn num_inputs(&self) -> usize {
        self.sizes[0] as usize
    }

    /// Size of the output; labels are below it.
    pub fn num_classes(&self) -> usize {
        self.sizes[usize::from(self.count) - 1] as usize
    }

    /// Number of weight layers.
    pub fn num_layers(&self) -> usize {
        usize::from(self.count) - 1
    }

    /// The weight layers, input side first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Layer> + '_ {
        (0..self.num_layers()).map(|index| self.layer(index))
    }

    /// Weight layer `index`, from 0.
    pub(crate) fn layer(&self, index: usize) -> Layer {
        Layer::Dense(Dense {
            d_in: self.sizes[index] as usize,
            d_out: self.sizes[index + 1] as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_shape_has_12730_parameters() {
        let shape = Shape::new(&[784, 16, 10]).unwrap();
        assert_eq!(shape.sizes(), [784, 16, 10]);
        assert_eq!(shape.num_params(), 784 * 16 + 16 + 16 * 10 + 10);
        assert_eq!(
            (shape.num_inputs(), shape.num_classes(), shape.num_layers()),
            (784, 10, 2)
        );
        assert_eq!(shape.layers().nth(1), Some(shape.layer(1)));
    }

    #[test]
    fn the_largest_depth_is_accepted_and_one_more_is_refused() {
        assert_eq!(
            Shape::new(&[3; MAX_LAYERS + 1]).unwrap().num_layers(),
            MAX_LAYERS
        );
        assert_eq!(
            Shape::new(&[3; MAX_LAYERS + 2]),
            Err(ShapeError::TooManyLayers(MAX_LAYERS + 1))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Shape::new(&[]), Err(ShapeError::TooFewSizes(0)));
        assert_eq!(Shape::new(&[784]), Err(ShapeError::TooFewSizes(1)));
        assert_eq!(
            Shape::new(&[784, 0, 10]),
            Err(ShapeError::Width {
                position: 1,
                size: 0
            })
        );
        let size = MAX_WIDTH + 1;
        assert_eq!(
            Shape::new(&[size, 10]),
            Err(ShapeError::Width { position: 0, size })
        );
        assert!(Shape::new(&[usize::MAX, 10]).is_err());
    }

    #[test]
    fn the_number_of_parameters_is_bounded() {
        assert!(Shape::new(&[65_535, 4_095]).is_ok());
        assert_eq!(Shape::new(&[65_535, 4_097]), Err(ShapeError::TooManyParams));
        assert_eq!(
            Shape::new(&[MAX_WIDTH; MAX_LAYERS + 1]),
            Err(ShapeError::TooManyParams)
        );
    }
}
