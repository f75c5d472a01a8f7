-- Give back whatever a claim took whose answer never arrived (the link broke between question and answer).
--
-- KEYS  1 queue   2 leases   3 holds   4 sizes   5 claims   (see record.lua)
-- ARGV  tokens of the claims in doubt
-- RETURN number of jobs put back
--
-- Without it the jobs would wait for their lease to run out and be booked as a crash.
-- Why atomic: the claim in doubt may be taken for dead by another replica at the same moment.

local queue, leases, holds, sizes, claims = unpack(KEYS)
local count = 0
write_even_when_full(sizes)
for _, token in ipairs(ARGV) do
  local packed = redis.call('HGET', claims, token)
  local is_mine = owner_of(token, queue, holds)
  local jobs = packed and cmsgpack.unpack(packed) or {}
  for i = 1, #jobs, 2 do
    local lock_key = 'arq:in-progress:' .. jobs[i]
    if is_mine(jobs[i], redis.call('GET', lock_key)) then
      redis.call('DEL', lock_key)
      redis.call('ZADD', queue, 'XX', jobs[i + 1], jobs[i])
      count = count + 1
    end
  end
  dissolve(token, leases, holds, sizes, claims)
end
return count
