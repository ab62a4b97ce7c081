//! The examples that are dealt out: as many as the clients ask for in all, chosen at random.

use super::{PartitionError, PartitionRequest};
use fl_param::ParamSpec;
use fl_rng::Pcg32;

/// Classes that each client has.
pub(super) const CLASSES_PER_CLIENT: ParamSpec = ParamSpec {
    name: "classes_per_client",
    default: 2.0,
    min: 1.0,
    max: 256.0,
    whole: true,
    doc: "Classes of which a device has examples",
};

/// Number of examples to deal out: the sum of the sizes asked for.
///
/// # Errors
/// [`PartitionError`] if there are not as many.
pub(super) fn examples(request: &PartitionRequest<'_>) -> Result<usize, PartitionError> {
    let available = super::available(request.labels.len())?;
    let sum = |sum: u64, &size: &usize| sum.saturating_add(size as u64);
    let asked = request.sizes.iter().fold(0, sum);
    match u32::try_from(asked) {
        Ok(examples) if examples <= available => Ok(examples as usize),
        _ => Err(PartitionError::TooFewExamples {
            asked,
            available: available.into(),
        }),
    }
}

/// Chooses examples at random, in random order.
pub(super) fn drawn(request: &PartitionRequest<'_>, examples: usize, rng: &mut Pcg32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..request.labels.len() as u32).collect();
    rng.shuffle(&mut order);
    order.truncate(examples);
    order
}

/// Chooses examples at random and sorts them by class; within a class their order is random.
///
/// # Shapes
/// `[num_classes][examples of the class]`.
pub(super) fn by_class(
    request: &PartitionRequest<'_>,
    examples: usize,
    rng: &mut Pcg32,
) -> Vec<Vec<u32>> {
    let mut classes = vec![Vec::new(); request.num_classes];
    for index in drawn(request, examples, rng) {
        let label = usize::from(request.labels[index as usize]);
        if let Some(class) = classes.get_mut(label) {
            class.push(index);
        }
    }
    classes
}

/// The classes that have examples, for clients that have `each` of them.
///
/// # Errors
/// [`PartitionError`] if there are fewer, or none.
pub(super) fn classes_there(classes: &[Vec<u32>], each: usize) -> Result<Vec<u32>, PartitionError> {
    let there = (0..classes.len()).filter(|&class| !classes[class].is_empty());
    let there: Vec<u32> = there.map(|class| class as u32).collect();
    if each > there.len() {
        return Err(PartitionError::Refused(format!(
            "classes_per_client is {each}, and the examples that are dealt out are of {} classes: lower \
             classes_per_client",
            there.len()
        )));
    }
    Ok(there)
}

/// Takes the next `count` examples, or those that are left.
pub(super) fn take<'a>(rest: &mut &'a [u32], count: usize) -> &'a [u32] {
    let (own, others) = rest.split_at(count.min(rest.len()));
    *rest = others;
    own
}
