//! The splitting of tasks into batches, because one task may have megabytes of parameters and another a few bytes.

/// The most items of a batch.
const MAX_ITEMS: usize = 100;

/// The most bytes of a batch, unless a single item has more.
const MAX_BYTES: usize = 1024 * 1024;

/// Splits items into batches, in their order. `size` returns the bytes of an item.
pub(crate) fn batches<T>(items: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let mut bytes = 0usize;
        let fits = |item: &&T| {
            bytes = bytes.saturating_add(size(item));
            bytes <= MAX_BYTES
        };
        let count = rest.iter().take(MAX_ITEMS).take_while(fits).count();
        let (batch, after) = rest.split_at(count.max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_a_bound_of_items_and_of_bytes() {
        let counts = |sizes: &[usize]| -> Vec<usize> {
            let batches = batches(sizes, |size| *size);
            assert_eq!(batches.concat(), sizes);
            batches.into_iter().map(<[usize]>::len).collect()
        };
        let none: [usize; 0] = [];
        assert_eq!(counts(&[]), none);
        assert_eq!(counts(&[0; MAX_ITEMS]), [MAX_ITEMS]);
        assert_eq!(counts(&[0; MAX_ITEMS + 1]), [MAX_ITEMS, 1]);
        assert_eq!(counts(&[1, MAX_BYTES - 1, 1]), [2, 1]);
        assert_eq!(
            counts(&[1, MAX_BYTES, MAX_BYTES + 1, usize::MAX, 1]),
            [1; 5]
        );
    }
}
