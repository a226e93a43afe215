-- Column `doubts` of `aigc_places` is declared in 0016. Until now, "too often" counted as a lack of places, so the app
-- must learn the places again.
DELETE FROM aigc_places;
