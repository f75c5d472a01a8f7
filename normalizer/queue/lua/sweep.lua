-- Put jobs of dead replicas back: their lease ran out and nobody renewed or settled it.
--
-- KEYS  1 queue   2 leases   3 sizes   4 claims   5 suspects   6 isolating   (see record.lua and claim.lua)
-- ARGV  1 crashes before a job can be condemned   2 crashes after which it always is   3 at most so many groups
--       4 Redis's time after which it is too late, ms
-- RETURN flat {token, jobs put back, ...}
--
-- No try is counted: a crash has its own account. All jobs of the dead group that were not settled become
-- suspects and may only run in groups of half their number; from the second crash on, in a process that runs nothing
-- else (claim.lua); a job that was alone in such a process when it died is condemned (`dead`).
-- Why atomic: a worker that is only slow may renew at any moment; it is this or that, never half of each.

local queue, leases, sizes, claims, suspects, isolating = unpack(KEYS)
local min_crashes, max_crashes = tonumber(ARGV[1]), tonumber(ARGV[2])
-- Held up on its way, e.g. by CLIENT PAUSE: so were the renewals of the living. They are heard first, then asked again.
if clock_ms() > tonumber(ARGV[4]) then return {} end
local over = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(clock_ms()), 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local report = {}

-- The group's jobs nobody else has, as {id, place, ...}; nil while a lock still stands (it ends within a millisecond).
local function orphans_of(token, lease_end)
  local packed = redis.call('HGET', claims, token)
  local jobs, ids, lock_keys = packed and cmsgpack.unpack(packed) or {}, {}, {}
  for i = 1, #jobs, 2 do
    ids[#ids + 1] = jobs[i]
    lock_keys[#lock_keys + 1] = 'arq:in-progress:' .. jobs[i]
  end
  local found = {}
  if #ids == 0 then return found end
  local locks = redis.call('MGET', unpack(lock_keys))
  local scores = redis.call('ZMSCORE', queue, unpack(ids))
  for i = 1, #ids do
    if locks[i] == token then return nil end
    if not locks[i] and scores[i] == lease_end then
      found[#found + 1] = ids[i]
      found[#found + 1] = jobs[2 * i]
    end
  end
  return found
end

local function book_crash(id, token, n)
  local text = redis.call('HGET', suspects, id)
  local r = text and parse(text) or {crashes = 0, soft = 0}
  r.crashes, r.blamed, r.limit = r.crashes + 1, token, math.max(1, math.floor(n / 2))
  r.dead = (n == 1 and r.crashes >= min_crashes) or r.crashes >= max_crashes
  redis.call('HSET', suspects, id, text_of(r))
end

for i = 1, #over, 2 do
  local token = over[i]
  local found = orphans_of(token, over[i + 1])
  if found then
    for j = 1, #found, 2 do
      book_crash(found[j], token, #found / 2)
      redis.call('ZADD', queue, 'XX', found[j + 1], found[j])
    end
    dissolve(token, leases, sizes, claims)
    local owner = redis.call('GET', isolating)
    if owner and string.sub(token, 1, #owner) == string.sub(owner, 2) .. ':' then redis.call('DEL', isolating) end
    if #found > 0 then
      report[#report + 1] = token
      report[#report + 1] = #found / 2
    end
  end
end
return report
