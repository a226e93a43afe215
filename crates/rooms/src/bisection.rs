//! Searches a log for the update with which it begins to fail.

use crate::error::RoomError;

/// Finds the place of the update at the end of the shortest log that fails. The whole log fails, and the log before its
/// first update does not.
///
/// # Errors
/// If a trial fails to tell.
pub(crate) async fn first_that_fails(
    revs: &[u64],
    fails_until: impl AsyncFn(u64) -> Result<bool, RoomError>,
) -> Result<usize, RoomError> {
    let (mut fine, mut fails) = (0, revs.len());
    while fails - fine > 1 {
        let middle = fine + (fails - fine) / 2;
        if fails_until(revs[middle - 1]).await? {
            fails = middle;
        } else {
            fine = middle;
        }
    }
    Ok(fine)
}

#[cfg(test)]
mod tests {
    use platform::native::block_on;

    use super::*;

    #[test]
    fn each_update_of_a_log_is_found_in_few_trials() {
        for length in 1..=40_usize {
            let revs: Vec<u64> = (1..=length as u64).map(|rev| rev * 10).collect();
            for bad in 0..length {
                let trials = std::cell::Cell::new(0);
                let fails_until = async |rev| {
                    trials.set(trials.get() + 1);
                    Ok(rev >= revs[bad])
                };
                let place = block_on(first_that_fails(&revs, fails_until)).unwrap();
                assert_eq!(place, bad, "of {length}");
                assert!(trials.get() <= length.next_power_of_two().ilog2());
            }
        }
    }
}
