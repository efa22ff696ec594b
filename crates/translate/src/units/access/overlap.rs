//! Which selectors pick the same pods.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_snapshot::Name;

use crate::input::kube::selects;

type Labels = BTreeMap<Name, Name>;

/// Sets of selectors, by position, that pick the same pods: some of those that are known, or some that may come, where
/// one selector demands all that another one does.
pub(super) fn groups<'a>(selectors: &[&Labels], pods: impl Iterator<Item = &'a Labels>) -> BTreeSet<Vec<usize>> {
    // Each selector is found by its rarest label: few selectors share it, so few are looked at in vain.
    let mut uses: BTreeMap<(&Name, &Name), usize> = BTreeMap::new();
    for label in selectors.iter().copied().flatten() {
        *uses.entry(label).or_default() += 1;
    }
    let mut by_label: BTreeMap<(&Name, &Name), Vec<usize>> = BTreeMap::new();
    for (index, selector) in selectors.iter().enumerate() {
        if let Some(rarest) = selector.iter().min_by_key(|label| uses.get(label)) {
            by_label.entry(rarest).or_default().push(index);
        }
    }
    let mut groups = BTreeSet::new();
    let mut add = |labels: &Labels| {
        let candidates = labels.iter().filter_map(|label| by_label.get(&label)).flatten().copied();
        let mut group: Vec<usize> = candidates.filter(|index| selects(selectors[*index], labels)).collect();
        if group.len() > 1 {
            group.sort_unstable();
            groups.insert(group);
        }
    };
    selectors.iter().for_each(|selector| add(selector));
    pods.for_each(&mut add);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn selectors_meet_at_known_pods_and_where_one_demands_all_of_another() {
        let selectors = [
            labels(&[("app", "a")]),
            labels(&[("app", "a"), ("version", "v1")]),
            labels(&[("tier", "web")]),
            labels(&[("app", "b"), ("tier", "web")]),
            labels(&[("app", "c")]),
        ];
        let selectors: Vec<&Labels> = selectors.iter().collect();
        let found = groups(&selectors, [].into_iter());
        assert_eq!(found, BTreeSet::from([vec![0, 1], vec![2, 3]]));
        let pod = labels(&[("app", "c"), ("tier", "web"), ("more", "x")]);
        let found = groups(&selectors, [&pod].into_iter());
        assert_eq!(found, BTreeSet::from([vec![0, 1], vec![2, 3], vec![2, 4]]));
    }
}
