//! Panics of native devices: they end up in the device's log, not on the terminal.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Place and reason of this thread's panic; `None` on threads that are no devices.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `body`; if it panics, returns where and why.
///
/// Other threads panic as before.
pub(super) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            let is_device = CAUGHT.with_borrow_mut(|caught| {
                caught
                    .as_mut()
                    .map(|text| *text = panic.to_string())
                    .is_some()
            });
            if !is_device {
                others(panic);
            }
        }));
    });
    CAUGHT.set(Some(String::new()));
    // What the body leaves behind is dropped with it, or, as its log, has no invariants to break.
    let result = catch_unwind(AssertUnwindSafe(body));
    let caught = CAUGHT.take().unwrap_or_default();
    result.map_err(|_| caught)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        let text = caught::<()>(|| panic!("out of {}", "batteries")).unwrap_err();
        assert!(
            text.contains("panic.rs") && text.contains("out of batteries"),
            "{text}"
        );
        assert_eq!(caught(|| 7), Ok(7));
    }
}
