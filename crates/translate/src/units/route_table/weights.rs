/// The share in percent of each destination out of the weights that were written, where 0 stands for none.
///
/// # Errors
/// When the weights cannot add up to 100.
pub(super) fn shares(weights: &[u32]) -> Result<Vec<u32>, String> {
    if weights.len() < 2 {
        return match weights {
            [0 | 100] | [] => Ok(vec![100; weights.len()]),
            _ => Err(format!("expected weight 100 or none for the only destination, found {}", weights[0])),
        };
    }
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let open = weights.iter().filter(|weight| **weight == 0).count() as u64;
    let Some(rest) = 100_u64.checked_sub(total) else {
        return Err(format!("expected weights that add up to 100, found {total}"));
    };
    match (open, rest) {
        (0, 0) => Ok(weights.to_vec()),
        (0, _) => Err(format!("expected weights that add up to 100, found {total}")),
        // A weight of 0 cannot be told from none; next to a full 100 it can only mean no traffic.
        (_, 0) => Ok(weights.to_vec()),
        (_, rest) if rest < open => {
            Err(format!("expected at least 1 for each of {open} destinations without weight, but only {rest} is left"))
        }
        _ => {
            let mut place = 0;
            let share = |weight: &u32| {
                if *weight > 0 {
                    return *weight;
                }
                place += 1;
                // The first ones take what does not divide evenly; below 100, so the numbers are small.
                (rest / open + u64::from(place <= rest % open)) as u32
            };
            Ok(weights.iter().map(share).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::shares;

    #[test]
    fn weights_are_completed() {
        assert_eq!(shares(&[0]), Ok(vec![100]));
        assert_eq!(shares(&[0, 0]), Ok(vec![50, 50]));
        assert_eq!(shares(&[0, 0, 0]), Ok(vec![34, 33, 33]));
        assert_eq!(shares(&[80, 20]), Ok(vec![80, 20]));
        assert_eq!(shares(&[80, 0]), Ok(vec![80, 20]));
        assert_eq!(shares(&[100, 0]), Ok(vec![100, 0]));
        assert!(shares(&[80, 10]).is_err());
        assert!(shares(&[80, 30]).is_err());
        assert!(shares(&[99, 0, 0]).is_err());
        assert!(shares(&[50]).is_err());
        assert!(shares(&[u32::MAX, u32::MAX]).is_err());
    }

    proptest! {
        #[test]
        fn shares_always_add_up(weights in proptest::collection::vec(0u32..60, 1..10)) {
            if let Ok(shares) = shares(&weights) {
                prop_assert_eq!(shares.iter().sum::<u32>(), 100);
                for (weight, share) in weights.iter().zip(shares) {
                    prop_assert!(*weight == 0 || *weight == share);
                }
            }
        }
    }
}
