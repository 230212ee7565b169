//! Words with a bit for each place of a batch.

/// The places of the bits that are set, from the lowest.
#[inline]
pub(crate) fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        let some = bits != 0;
        bits &= bits.wrapping_sub(1);
        some.then_some(place)
    })
}

/// A bit for each of up to 64 items, from the lowest; `of_eight` gives those of eight. Items that
/// are missing from the last eight are `none`.
#[inline]
pub(crate) fn which<T: Copy>(items: &[T], none: T, of_eight: impl Fn(&[T; 8]) -> u32) -> u64 {
    let (eights, rest) = items.as_chunks::<8>();
    let mut bits = 0;
    for (place, eight) in eights.iter().enumerate().take(8) {
        bits |= u64::from(of_eight(eight)) << (8 * place);
    }
    if !rest.is_empty() {
        let mut last = [none; 8];
        for (to, item) in last.iter_mut().zip(rest) {
            *to = *item;
        }
        bits |= u64::from(of_eight(&last)) << (8 * eights.len());
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_items() {
        for len in 0..=64 {
            let items: Vec<u8> = (0..len).map(|i| i % 3).collect();
            let bits = which(&items, 0, |eight| {
                (0..8).map(|i| u32::from(eight[i] == 1) << i).sum()
            });
            let expected: Vec<usize> = (0..usize::from(len)).filter(|i| i % 3 == 1).collect();
            assert_eq!(places(bits).collect::<Vec<_>>(), expected);
        }
        assert_eq!(places(u64::MAX).count(), 64);
    }
}
