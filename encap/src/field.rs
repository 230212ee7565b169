//! Reading and writing named fields without a way to panic.
//!
//! Views check the length once, so the misses below (zeros, or nothing written) happen only with a
//! buffer type whose `as_ref` changes its length between calls.

use std::ops::Range;

#[inline]
pub(crate) fn read<const N: usize>(data: &[u8], field: Range<usize>) -> [u8; N] {
    data.get(field)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

#[inline]
pub(crate) fn write<const N: usize>(data: &mut [u8], field: Range<usize>, value: [u8; N]) {
    if let Some(bytes) = data.get_mut(field)
        && let Ok(bytes) = <&mut [u8; N]>::try_from(bytes)
    {
        *bytes = value;
    }
}

#[inline]
pub(crate) fn read_u8(data: &[u8], at: usize) -> u8 {
    data.get(at).copied().unwrap_or(0)
}

#[inline]
pub(crate) fn write_u8(data: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = data.get_mut(at) {
        *byte = value;
    }
}

#[inline]
pub(crate) fn read_u16(data: &[u8], field: Range<usize>) -> u16 {
    u16::from_be_bytes(read(data, field))
}

#[inline]
pub(crate) fn write_u16(data: &mut [u8], field: Range<usize>, value: u16) {
    write(data, field, value.to_be_bytes());
}

/// `data[from..to]` with both ends clamped to the data and to each other.
#[inline]
pub(crate) fn clamped(data: &[u8], from: usize, to: usize) -> &[u8] {
    let to = to.min(data.len());
    data.get(from..to).unwrap_or(&[])
}

/// As [`clamped`], mutable.
#[inline]
pub(crate) fn clamped_mut(data: &mut [u8], from: usize, to: usize) -> &mut [u8] {
    let to = to.min(data.len());
    data.get_mut(from..to).unwrap_or(&mut [])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_read_zero_and_write_nothing() {
        let mut data = [1u8, 2, 3];
        assert_eq!(read::<2>(&data, 1..3), [2, 3]);
        assert_eq!(read::<2>(&data, 2..4), [0, 0]);
        assert_eq!(read_u8(&data, 3), 0);
        write_u16(&mut data, 2..4, 0xffff);
        write_u8(&mut data, 9, 1);
        assert_eq!(data, [1, 2, 3]);
        write_u16(&mut data, 0..2, 0x0a0b);
        assert_eq!(data, [0x0a, 0x0b, 3]);
    }

    #[test]
    fn clamps_both_ends() {
        let mut data = [1u8, 2, 3];
        assert_eq!(clamped(&data, 1, 99), [2, 3]);
        assert_eq!(clamped(&data, 2, 1), [0u8; 0]);
        assert_eq!(clamped(&data, 9, 99), [0u8; 0]);
        assert_eq!(clamped_mut(&mut data, 0, 2), [1, 2]);
        assert!(clamped_mut(&mut data, 4, 2).is_empty());
    }
}
