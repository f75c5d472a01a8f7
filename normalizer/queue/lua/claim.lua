-- Claim one group of due jobs, and beside it the few due jobs that stock arq has to run itself.
--
-- KEYS  1 queue   zset    job id -> score (ms); arq's own. A claimed job's score is its hold's end.
--       2 leases   3 holds   4 sizes   5 claims   6 suspects   7 quarantine   8 foreign   (record.lua)
--       9 fence      string  number of the last claim
--      10 paused     string  present: nothing may be claimed
--      11 quarantine_owner  string  "!worker" runs, or "?worker" waits to run, jobs that crashed processes twice, alone
--      12 abort      zset    arq's own: ids somebody asked to abort
-- ARGV  1 lease_ms   2 hold_ms   3 token, never used before   4 worker id   5 max_items
--       6 free slots: a group takes one, a stock job takes one   7 in-progress time of a stock job, ms
--       8 head_start_ms   9 "1" if this worker runs no group now   10 "1" if aborts are honoured
--      11 "1" if it is the turn of a job that was set aside in `foreign`   12 largest payload, bytes
--      13 "1" if somebody refills an emptied Redis before it is claimed from
--      14.. names of the batch functions; none: every payload is taken for a batch job
-- RETURN {status, wait_ms, now_ms, fence, kind, group, stock}
--       status "ok" | "empty" | "more" (come again at once: a part of what is due could not be taken)
--            | "paused" | "emptied" (never claimed from: refill, then set the fence) | "isolate" (finish what runs,
--            then come back alone)
--       kind "normal" | "suspect" | "exclusive" | "dead"
--       group flat {id, score, try, payload, ...}    stock flat {id, score, ...}
--             try 0: somebody asked to abort it; payload "": it was too large to hand out
--
-- What is due is judged by Redis's clock: workers' clocks differ.
-- A try is counted in arq:retry: when it ends as one (settle.lua): a claim that is handed back, or dies, costs none.
-- Why atomic: between looking at a job and marking it no other replica may look at it, and a job that somebody holds
-- must never look free. The walk is bounded, and what cannot be taken is set aside: no history makes a claim slow.
-- Bulk commands (MGET, HMGET, variadic ZADD) keep it near two commands a job.

local queue, leases, holds, sizes, claims, suspects, quarantine, foreign, fence_key, paused, owner_key, aborts =
  unpack(KEYS)
local lease_ms, hold_ms, token, worker = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local max_items, slots, stock_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local head_start_ms, alone, heed_aborts = tonumber(ARGV[8]), ARGV[9] == '1', ARGV[10] == '1'
local foreign_first, largest, refills = ARGV[11] == '1', tonumber(ARGV[12]), ARGV[13] == '1'
local WALK = 750 + max_items  -- rows looked at in one call
local PATIENCE = 500  -- locked rows among the first so many are passed by, later ones set aside
local LOCKED_ASIDE_MS = 10000

if redis.call('EXISTS', paused) == 1 then return {'paused', -1} end
if refills and redis.call('EXISTS', fence_key) == 0 then return {'emptied', -1} end

local now_us = clock_us()
local now = math.floor(now_us / 1000)
local now_text = whole(now)

local function next_due()
  local first = redis.call('ZRANGEBYSCORE', queue, '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then return math.ceil(tonumber(first[2]) - now) end
  return -1
end

local is_quarantine, is_foreign = redis.call('EXISTS', quarantine) == 1, redis.call('EXISTS', foreign) == 1
if not is_quarantine and not is_foreign and redis.call('ZCOUNT', queue, '-inf', now_text) == 0 then
  return {'empty', next_due(), now}
end
write_even_when_full(sizes)

local troubled = redis.call('EXISTS', suspects) == 1
-- Holds end only where a whole fleet was away: such jobs look free, and are their owner's or sweep.lua's.
local unswept, none_unswept = {}, true
for i, value in ipairs(redis.call('ZRANGEBYSCORE', holds, '-inf', whole(now + 1), 'WITHSCORES')) do
  if i % 2 == 0 then unswept[value], none_unswept = true, false end
end
local stock, visited = {}, {}
local ids, scores, payloads, taken = {}, {}, {}, 0  -- the group
local kind, limit = nil, max_items
local told_to_isolate, rows_left, aside = false, WALK, 0

local function looks_batch(payload)
  if #ARGV < 14 then return true end
  for i = 14, #ARGV do
    if string.find(payload, ARGV[i], 1, true) then return true end
  end
  return false
end

-- What is set aside, until it is written: a chunk of the walk at a time.
local moved, set_in = {}, {[quarantine] = {}, [foreign] = {}}

local function move(id, after_ms)
  moved[#moved + 1], moved[#moved + 2] = whole(now + after_ms), id
  aside = aside + 1
end

local function set_aside(id, index, score)
  move(id, SET_ASIDE_MS)
  local list = set_in[index]
  list[#list + 1], list[#list + 2] = score, id
end

local function write_moves()
  in_chunks(moved, function(...) redis.call('ZADD', queue, ...) end)
  moved = {}
  for index, list in pairs(set_in) do
    in_chunks(list, function(...) redis.call('ZADD', index, 'NX', ...) end)
    set_in[index] = {}
  end
end

-- One worker at a time; one that is idle goes before one that still has to get idle.
local function may_isolate()
  local owner = redis.call('GET', owner_key)
  local waits = owner and string.sub(owner, 1, 1) == '?'
  if owner and string.sub(owner, 2) ~= worker and not (alone and waits) then return false end
  redis.call('SET', owner_key, (alone and '!' or '?') .. worker, 'PX', lease_ms * 2)
  return true
end

local function kind_of(rec)
  if not rec then return 'normal', max_items end
  if rec.dead then return 'dead', max_items end
  return rec.crashes >= 2 and 'exclusive' or 'suspect', rec.limit
end

local function join(id, score, payload, its_kind, its_limit)
  if kind and (kind ~= its_kind or taken + 1 > its_limit) then return end
  kind, limit = its_kind, math.min(limit, its_limit)
  taken = taken + 1
  visited[id] = true
  ids[taken], scores[taken], payloads[taken] = id, score, #payload > largest and '' or payload
end

local function has_slot() return #stock / 2 + (kind and 1 or 0) < slots end

local function start_stock(id, score)
  visited[id] = true
  redis.call('SET', 'arq:in-progress:' .. id, '1', 'PX', stock_ms)
  stock[#stock + 1] = id
  stock[#stock + 1] = score
end

local function take_foreign(most)
  if not is_foreign or most < 1 then return end
  local rows = redis.call('ZRANGE', foreign, 0, most - 1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    local id, score = rows[i], rows[i + 1]
    redis.call('ZREM', foreign, id)
    if redis.call('ZSCORE', queue, id) and redis.call('EXISTS', 'arq:in-progress:' .. id) == 0 then
      redis.call('ZADD', queue, score, id)
      start_stock(id, score)
    end
  end
end

local function take_quarantined()
  if not may_isolate() then return end
  if not alone then told_to_isolate = true return end
  local rows = redis.call('ZRANGE', quarantine, 0, max_items - 1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    local id, score = rows[i], rows[i + 1]
    local payload, text = redis.call('GET', 'arq:job:' .. id), redis.call('HGET', suspects, id)
    local its_kind, its_limit = kind_of(text and parse(text))
    local is_free = redis.call('ZSCORE', queue, id) and redis.call('EXISTS', 'arq:in-progress:' .. id) == 0
    if not is_free or not payload then  -- gone, or somebody's
      redis.call('ZREM', quarantine, id)
    elseif its_kind ~= 'exclusive' and its_kind ~= 'dead' then  -- pardoned meanwhile: back to its place
      redis.call('ZREM', quarantine, id)
      redis.call('ZADD', queue, score, id)
    else
      join(id, score, payload, its_kind, its_limit)
      if not visited[id] then return end  -- of the other kind, or the group is full
      redis.call('ZREM', quarantine, id)
    end
  end
end

-- Look at one due row of the queue: take it, pass it by, or set it aside. Returns whether it left the band.
local function look_at(id, score, lock, text, payload)
  if visited[id] or unswept[score] then return false end
  if lock then
    if rows_left > WALK - PATIENCE then return false end
    move(id, LOCKED_ASIDE_MS)
    return true
  end
  if not payload or not looks_batch(payload) then
    if not has_slot() then set_aside(id, foreign, score) return true end
    if text then redis.call('HDEL', suspects, id) end
    start_stock(id, score)
    return false
  end
  local its_kind, its_limit = kind_of(text and parse(text))
  if its_kind == 'exclusive' then set_aside(id, quarantine, score) return true end
  if kind or has_slot() then join(id, score, payload, its_kind, its_limit) end
  return false
end

-- Walk one band of scores until the group holds `quota` jobs.
local function walk(min, max, quota)
  local offset = 0
  while math.min(quota, limit) > taken and rows_left > 0 do
    local chunk = math.min(rows_left, math.max(64, quota - taken))
    local rows = redis.call('ZRANGEBYSCORE', queue, min, max, 'WITHSCORES', 'LIMIT', offset, chunk)
    if #rows == 0 then return end
    local seen, lock_keys, job_keys, n = {}, {}, {}, #rows / 2
    for i = 1, n do
      local id = rows[2 * i - 1]
      seen[i], lock_keys[i], job_keys[i] = id, 'arq:in-progress:' .. id, 'arq:job:' .. id
    end
    local locks = redis.call('MGET', unpack(lock_keys))
    local found = troubled and redis.call('HMGET', suspects, unpack(seen))
    local contents = redis.call('MGET', unpack(job_keys))
    for i = 1, n do
      if taken >= math.min(quota, limit) then break end
      rows_left = rows_left - 1
      local left = look_at(seen[i], rows[2 * i], locks[i], found and found[i], contents[i])
      if not left then offset = offset + 1 end
    end
    write_moves()
    if n < chunk then return end
  end
end

if is_quarantine then take_quarantined() end
if foreign_first then take_foreign(1) end
if not kind and not told_to_isolate then
  -- The early band holds interactive jobs and whatever waited longer than their head start. A quarter of the group is
  -- kept for the others, so that neither side ever stands still.
  local edge = whole(now - head_start_ms)
  local later = redis.call('ZCOUNT', queue, '(' .. edge, now_text)
  walk('-inf', edge, max_items - math.min(later, math.floor(max_items / 4)))
  walk('(' .. edge, now_text, max_items)
  if later > 0 and taken < limit then walk('-inf', edge, max_items) end
end
if kind ~= 'exclusive' and not told_to_isolate then take_foreign(slots - #stock / 2 - (kind and 1 or 0)) end

if taken == 0 then
  if told_to_isolate then return {'isolate', -1, now, 0, 'exclusive', {}, stock} end
  if #stock > 0 then return {'ok', -1, now, 0, 'normal', {}, stock} end
  if aside > 0 then return {'more', 0, now} end
  if rows_left <= 0 then return {'empty', 100, now} end  -- all of it somebody's: no help in asking at once
  return {'empty', next_due(), now}
end

-- The fence grows with every claim, also over a flushed Redis: it never falls behind the clock (µs).
-- One that is no whole number any more (forged, damaged) counts for nothing.
local last = tonumber(redis.call('GET', fence_key) or '0') or 0
if not (last < 2 ^ 53) then last = 0 end
local fence = math.max(last + 1, now_us)
local fence_text = whole(fence)
redis.call('SET', fence_key, fence_text)

local lease_end, hold_end = whole(now + lease_ms), whole(now + hold_ms)
local retry_keys, zadd, flat, places = {}, {}, {}, {}
for i = 1, taken do retry_keys[i] = 'arq:retry:' .. ids[i] end
local tries = redis.call('MGET', unpack(retry_keys))  -- nil comes as false; tonumber(false) is nil
local unwanted = heed_aborts and redis.call('EXISTS', aborts) == 1 and redis.call('ZMSCORE', aborts, unpack(ids))
for i = 1, taken do
  local id, score = ids[i], scores[i]
  redis.call('SET', 'arq:in-progress:' .. id, token, 'PX', ARGV[2])
  zadd[2 * i - 1], zadd[2 * i] = hold_end, id
  places[2 * i - 1], places[2 * i] = id, score
  local try = unwanted and unwanted[i] and 0 or (tonumber(tries[i]) or 0) + 1
  flat[4 * i - 3], flat[4 * i - 2], flat[4 * i - 1], flat[4 * i] = id, score, try, payloads[i]
end
redis.call('ZADD', queue, unpack(zadd))
redis.call('ZADD', leases, lease_end, token)
redis.call('ZADD', holds, hold_end, token)
redis.call('HSET', sizes, token, taken)
redis.call('HSET', claims, token, cmsgpack.pack(places))
return {'ok', -1, now, fence_text, kind, flat, stock}
