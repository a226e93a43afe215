-- Column `doubts` of `aigc_places` is declared in 0016. What was known of places until now counted "too often" as a want of
-- places, so it is learnt anew.
DELETE FROM aigc_places;
