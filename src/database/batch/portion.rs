//! Lists that are too long for one batch.

/// How many bytes of values one batch is given, so that it stays well below a mebibyte.
const BYTES: usize = 512 << 10;

/// Splits off a first part of a list that fits into one batch, by the size of its items. It has at least one item,
/// unless there is none.
#[must_use]
pub fn first_portion<T>(items: &[T], bytes_of: impl Fn(&T) -> usize) -> (&[T], &[T]) {
    let mut bytes = 0_usize;
    let fits = |item: &&T| {
        bytes = bytes.saturating_add(bytes_of(item));
        bytes <= BYTES
    };
    let count = items.iter().take_while(fits).count().max(1);
    items.split_at_checked(count).unwrap_or((items, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_into_portions_that_fit_and_make_up_the_whole() {
        let sizes = [BYTES, 1, BYTES, BYTES - 1, 1, 5, 2 * BYTES, 1];
        let mut rest = &sizes[..];
        let mut portions = Vec::new();
        while !rest.is_empty() {
            let (first, others) = first_portion(rest, |size| *size);
            portions.push(first.len());
            rest = others;
        }
        assert_eq!(portions, [1, 1, 1, 2, 1, 1, 1]);
        assert_eq!(first_portion(&[0_usize; 0], |size| *size).0.len(), 0);
    }
}
