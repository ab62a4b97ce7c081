//! Work spread over the processors, while no device of this process trains.

use std::panic::resume_unwind;
use std::thread::Builder;

/// Results of `work` on parts of `all`, in their order: as many parts as processors, or fewer.
pub(crate) fn spread<T: Sync, R: Send>(all: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    spread_over(threads, all, work)
}

/// [`spread`] with so many parts.
fn spread_over<T: Sync, R: Send>(
    threads: usize,
    all: &[T],
    work: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    let share = all.len().div_ceil(threads).max(1);
    let mut parts = all.chunks(share);
    // This thread has the first part.
    let first = parts.next();
    std::thread::scope(|scope| {
        let work = &work;
        let begun: Vec<_> = parts
            .map(|part| {
                let thread = Builder::new().spawn_scoped(scope, move || work(part));
                thread.map_err(|_| part)
            })
            .collect();
        let first = first.map(work);
        let rest = begun.into_iter().map(|begun| match begun {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // Where no more threads can be had, this one does it.
            Err(part) => work(part),
        });
        first.into_iter().chain(rest).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_work_however_many_do_it() {
        let all: Vec<u32> = (0..23).collect();
        for threads in [1, 2, 7, 23, 100] {
            let parts = spread_over(threads, &all, <[u32]>::to_vec);
            assert!(parts.len() <= threads);
            assert_eq!(parts.concat(), all, "{threads}");
        }
        assert!(spread_over(3, &[], |part: &[u8]| part.len()).is_empty());
    }
}
