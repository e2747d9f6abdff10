//! Weighted round robin as a list that is walked in a circle.
use alloc::vec::Vec;

/// No longer list than this: weights that ask for a longer one are rounded.
const LONGEST: u64 = 4096;

/// Indices into `weights` such that each appears in proportion to its weight and as evenly spread as can be, so that a
/// heavy server gets no bursts. A weight of 0 does not appear; all of them 0 gives an empty list.
///
/// Smooth weighted round robin: each turn everybody gains its weight, the richest is taken and pays the sum.
pub fn rotation(weights: &[u32]) -> Vec<u16> {
    let scaled = scaled(weights);
    let sum: i64 = scaled.iter().sum();
    let mut credit: Vec<i64> = scaled.iter().map(|_| 0).collect();
    let mut out = Vec::new();
    for _ in 0..sum {
        let mut best: Option<(usize, i64)> = None;
        for (i, (have, gain)) in credit.iter_mut().zip(&scaled).enumerate() {
            *have += gain;
            if *gain > 0 && best.is_none_or(|(_, most)| *have > most) {
                best = Some((i, *have));
            }
        }
        let Some((taken, _)) = best else { break };
        if let Some(have) = credit.get_mut(taken) {
            *have -= sum;
        }
        out.push(u16::try_from(taken).unwrap_or(u16::MAX));
    }
    out
}

/// Divided by what they have in common, and rounded (never to 0) where the list would be too long.
fn scaled(weights: &[u32]) -> Vec<i64> {
    let common = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let sum: u64 = weights.iter().map(|w| u64::from(w / common)).sum();
    let fit = |w: u64| {
        if w == 0 || sum <= LONGEST {
            w
        } else {
            (w * LONGEST / sum).max(1)
        }
    };
    weights
        .iter()
        .map(|w| i64::try_from(fit(u64::from(w / common))).unwrap_or(i64::MAX))
        .collect()
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn equal_weights_take_turns_and_a_heavy_one_gets_no_burst() {
        assert_eq!(rotation(&[7, 7, 7]), [0, 1, 2]);
        assert_eq!(rotation(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(rotation(&[0, 3, 0]), [1]);
        assert_eq!(rotation(&[]), Vec::<u16>::new());
        assert_eq!(rotation(&[0, 0]), Vec::<u16>::new());
    }

    proptest! {
        #[test]
        fn each_appears_in_proportion_and_nobody_with_a_weight_is_left_out(
            weights in proptest::collection::vec(0u32..=65_535, 1..40)
        ) {
            let list = rotation(&weights);
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assert!(list.len() <= 4096 + weights.len());
            let mut counts = vec![0u64; weights.len()];
            for i in &list {
                counts[usize::from(*i)] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(*count == 0, *weight == 0);
                let fair = u64::from(*weight) * list.len() as u64 / sum.max(1);
                prop_assert!(count.abs_diff(fair) <= 1 + fair / 50, "{} for {} of {}", count, weight, sum);
            }
        }
    }
}
