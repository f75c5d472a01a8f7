-- May a model call start now? One rate limit, one pause and one breaker for all replicas.
--
-- Atomic, because two replicas that both read "one place left" would both take it. Time is Redis's own: replicas' clocks
-- differ. A sliding window in slots is kept by every provider's rule (sliding, fixed or token bucket), smoothed or not.
--
-- KEYS[1]  hash: w<slot> requests, t<slot> tokens of a slot; rpm, tpm as the provider states them; not_before, open_until,
--          probe_until (microseconds); failures in a row; opened, how often in a row; probe, whether one call finds out
--          after a long pause; refused, asked: why, for `status`
-- ARGV[1]  "admit" | "finish"
-- admit:   rpm, tpm (0 = unlimited), tokens, window_us, slots, failures_to_open, probe_us
--          returns {"ok", slot} | {"probe", slot} (finds out for all, after a refusal) | {"wait", us} (the limit) | {"paused", us} (the provider asked) | {"closed", us}
-- finish:  slot, tokens reserved, tokens used, outcome ("ok" | "limited" | "down" | "refused" | "none"), pause_us, failures_to_open,
--          open_us, rpm, tpm (as the provider's headers state them, 0 = not said), reason ('' = none), probe_after_us
--          (a pause of this length ends with one call that finds out, not with all of them), longest_us (no stop is longer)
--          returns {"ok", 0}

local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local KEEP_S = 3600

local function number(field)
  return tonumber(redis.call('HGET', key, field) or '0') or 0
end

local function smaller(given, stated)
  if given == 0 then return stated end
  if stated == 0 then return given end
  return math.min(given, stated)
end

local function admit()
  local window, slots = tonumber(ARGV[5]), tonumber(ARGV[6])
  local rpm = smaller(tonumber(ARGV[2]), number('rpm'))
  local tpm = smaller(tonumber(ARGV[3]), number('tpm'))
  local tokens = tonumber(ARGV[4])
  if tpm > 0 then tokens = math.min(tokens, tpm) end

  local open_until = number('open_until')
  if open_until > now then return {'closed', open_until - now} end
  local not_before = number('not_before')
  if not_before > now then return {'paused', not_before - now} end
  local half_open = number('failures') >= tonumber(ARGV[7]) or number('probe') == 1
  if half_open then
    local probe_until = number('probe_until')
    if probe_until > now then return {'closed', math.min(probe_until - now, 5000000)} end
  end

  local width = math.floor(window / slots)
  local current = math.floor(now / width)
  local first = current - slots
  local requests, used, seen = 0, 0, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local kind, slot = string.match(all[i], '^([wt])(%d+)$')
    if slot then
      slot = tonumber(slot)
      if slot < first then
        redis.call('HDEL', key, all[i])
      else
        local amount = tonumber(all[i + 1])
        seen[slot] = seen[slot] or {0, 0}
        if kind == 'w' then
          requests = requests + amount
          seen[slot][1] = seen[slot][1] + amount
        else
          used = used + amount
          seen[slot][2] = seen[slot][2] + amount
        end
      end
    end
  end

  local over_requests = rpm > 0 and requests + 1 > rpm
  local over_tokens = tpm > 0 and used + tokens > tpm
  if over_requests or over_tokens then
    for slot = first, current do
      if seen[slot] then
        requests, used = requests - seen[slot][1], used - seen[slot][2]
        if not ((rpm > 0 and requests + 1 > rpm) or (tpm > 0 and used + tokens > tpm)) then
          return {'wait', (slot + slots + 1) * width - now}
        end
      end
    end
    return {'wait', width}
  end

  redis.call('HINCRBY', key, 'w' .. current, 1)
  redis.call('HINCRBY', key, 't' .. current, tokens)
  if half_open then redis.call('HSET', key, 'probe_until', now + tonumber(ARGV[8])) end
  redis.call('EXPIRE', key, KEEP_S)
  return {half_open and redis.call('HEXISTS', key, 'refused') == 1 and 'probe' or 'ok', current}
end

local function finish()
  local slot, difference = ARGV[2], tonumber(ARGV[4]) - tonumber(ARGV[3])
  local outcome, pause = ARGV[5], tonumber(ARGV[6])
  local threshold, open_us = tonumber(ARGV[7]), tonumber(ARGV[8])
  if redis.call('HEXISTS', key, 't' .. slot) == 1 and difference ~= 0 then
    redis.call('HINCRBY', key, 't' .. slot, difference)
  end
  if tonumber(ARGV[9]) > 0 then redis.call('HSET', key, 'rpm', ARGV[9]) end
  if tonumber(ARGV[10]) > 0 then redis.call('HSET', key, 'tpm', ARGV[10]) end
  if pause > 0 and outcome ~= 'refused' then
    redis.call('HSET', key, 'not_before', math.max(number('not_before'), now + pause))
  end
  if outcome == 'ok' then
    redis.call('HDEL', key, 'failures', 'open_until', 'probe_until', 'opened', 'refused', 'asked', 'probe')
  elseif outcome == 'down' or outcome == 'refused' then
    local failures = redis.call('HINCRBY', key, 'failures', outcome == 'down' and 1 or threshold)
    local open_until = number('open_until')
    redis.call('HDEL', key, 'probe_until')
    if outcome == 'refused' then redis.call('HSET', key, 'refused', ARGV[11]) end
    if outcome == 'refused' then open_us = pause end
    if failures >= threshold then
      -- calls that were under way when it opened tell nothing new
      local opened = open_until > now and number('opened') or redis.call('HINCRBY', key, 'opened', 1)
      local length = math.min(tonumber(ARGV[13]), math.max(pause, open_us * math.min(2 ^ (opened - 1), 4)))
      redis.call('HSET', key, 'open_until', math.max(open_until, now + length))
    end
  else
    redis.call('HDEL', key, 'probe_until')
    if outcome == 'limited' and pause >= tonumber(ARGV[12]) then redis.call('HSET', key, 'probe', 1) end
    if outcome == 'limited' and ARGV[11] ~= '' then redis.call('HSET', key, 'asked', ARGV[11]) end
  end
  redis.call('EXPIRE', key, KEEP_S)
  return {'ok', 0}
end

if ARGV[1] == 'admit' then return admit() end
return finish()
