//! Bringing memory near before it is needed: tables of a gigabyte stand in no cache, and the walk would wait for each look-up.

/// Have the cache line of this value fetched while the walk goes on. Nothing depends on its arrival.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint to the processor. It reads nothing that the program sees, and the address is that of a live value.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    // Elsewhere there is no such hint in the stable language, and the walk waits when the time comes.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
