-- Take back crashes that were booked on a worker that only stood still.
--
-- KEYS  1 suspects   (see record.lua)
-- ARGV  1 token of the group that was taken for dead   2.. ids of its jobs (at most 1,000)
-- RETURN nothing
--
-- Why atomic: another worker may book a crash on the same job at the same moment.

local ids = {}
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
pardon(KEYS[1], ids, ARGV[1])
