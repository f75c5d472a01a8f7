-- Give back whatever a claim took whose answer never arrived (the link broke between question and answer).
--
-- KEYS  1 queue   2 leases   3 claims   (see claim.lua)
-- ARGV  tokens of the claims in doubt
-- RETURN number of jobs put back
--
-- Without it the jobs would wait for their lease to run out and be booked as a crash. Reads the whole `claims` hash
-- (the jobs in work, some thousands at most), which is why it only runs after a broken link.
-- Why atomic: the claim in doubt may be taken for an orphan by another replica at the same moment.

local queue, leases, claims = unpack(KEYS)
local doubtful = {}
for _, token in ipairs(ARGV) do doubtful[token] = true end
local all = redis.call('HGETALL', claims)
local count = 0
for i = 1, #all, 2 do
  local id, r = all[i], parse(all[i + 1])
  if doubtful[r.token] then
    if redis.call('GET', 'arq:in-progress:' .. id) == r.token then redis.call('DEL', 'arq:in-progress:' .. id) end
    redis.call('ZREM', leases, id)
    redis.call('ZADD', queue, 'XX', r.score, id)
    r.token = ''
    if r.limit == 0 then redis.call('HDEL', claims, id) else redis.call('HSET', claims, id, text_of(r)) end
    count = count + 1
  end
end
return count
