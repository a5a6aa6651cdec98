//! Keeps labels apart.

/// Moves places apart until neighbours are at least `gap` from each other, each as near to where it
/// wants to be as the others allow, all inside `low..=high` if they fit there at all. The order of
/// equals stays.
#[must_use]
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&one, &other| wanted[one].total_cmp(&wanted[other]));
    // Groups that touch: where the group starts if it sits at the mean of what its members want.
    let mut groups: Vec<(f64, usize)> = Vec::new();
    for &at in &order {
        let mut group = (wanted[at], 1usize);
        while let Some(&(start, count)) = groups.last() {
            if start + length(count, gap) <= group.0 {
                break;
            }
            groups.pop();
            let (below, above) = (size(count), size(group.1));
            // Mean of the starts that the members want, the later ones counted back to the start.
            let counted_back = group.0 - length(count, gap);
            group.0 = (start * below + counted_back * above) / (below + above);
            group.1 += count;
        }
        groups.push(group);
    }
    let mut sorted: Vec<f64> = groups
        .iter()
        .flat_map(|&(start, count)| (0..count).map(move |at| start + length(at, gap)))
        .collect();
    let mut edge = high;
    for place in sorted.iter_mut().rev() {
        *place = place.min(edge);
        edge = *place - gap;
    }
    let mut edge = low;
    for place in &mut sorted {
        *place = place.max(edge);
        edge = *place + gap;
    }
    let mut places = vec![0.0; wanted.len()];
    for (place, at) in sorted.into_iter().zip(order) {
        places[at] = place;
    }
    places
}

#[expect(clippy::cast_precision_loss, reason = "a handful of labels")]
fn size(count: usize) -> f64 {
    count as f64
}

fn length(count: usize, gap: f64) -> f64 {
    size(count) * gap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_do_not_touch_stay() {
        assert_eq!(
            spread(&[50.0, 10.0, 30.0], 12.0, 0.0, 100.0),
            [50.0, 10.0, 30.0]
        );
    }

    #[test]
    fn labels_that_touch_share_the_way() {
        assert_eq!(spread(&[50.0, 50.0], 10.0, 0.0, 100.0), [45.0, 55.0]);
        assert_eq!(
            spread(&[52.0, 50.0, 48.0], 10.0, 0.0, 100.0),
            [60.0, 50.0, 40.0]
        );
    }

    #[test]
    fn no_label_leaves_the_chart_or_touches_another() {
        for wanted in [
            vec![99.0, 98.0, 97.0, 3.0, 2.0],
            vec![0.0; 8],
            vec![100.0; 8],
            vec![10.0, 15.0, 40.0, 44.0, 47.0, 90.0],
        ] {
            let mut places = spread(&wanted, 12.0, 0.0, 100.0);
            places.sort_by(f64::total_cmp);
            assert!(
                places[0] >= 0.0 && places[places.len() - 1] <= 100.0,
                "{places:?}"
            );
            assert!(
                places
                    .windows(2)
                    .all(|pair| pair[1] - pair[0] >= 12.0 - 1e-9),
                "{places:?}"
            );
        }
    }
}
