//! Room that a crowd has left behind: a table keeps what it once needed, for as long as it lives.

use std::collections::HashMap;
use std::hash::Hash;

/// Below this nothing is worth giving back.
const SMALL: usize = 1_024;

/// Whether so few are left that most of the room is empty. What shrinks then has to grow again before it is so once more, which
/// keeps the cost of shrinking small against that of the removals.
pub fn is_mostly_empty(len: usize, capacity: usize) -> bool {
    capacity > SMALL && len < capacity / 8
}

/// Gives back what a table does not need any more.
pub fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if is_mostly_empty(table.len(), table.capacity()) {
        table.shrink_to(2 * table.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_back_what_a_crowd_has_needed() {
        let mut table: HashMap<usize, usize> = (0..10_000).map(|number| (number, number)).collect();
        let room = table.capacity();
        for number in 100..10_000 {
            table.remove(&number);
            give_back(&mut table);
        }
        assert!(table.capacity() < room / 8, "{} of {room}", table.capacity());
        assert_eq!(table.len(), 100);
    }

    #[test]
    fn what_is_small_or_in_use_stays_as_it_is() {
        assert!(!is_mostly_empty(0, SMALL));
        assert!(!is_mostly_empty(1_000, 4_000));
        assert!(is_mostly_empty(499, 4_000));
    }
}
