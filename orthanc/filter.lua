-- What each of Orthanc's users may ask of it; whatever is not named here is refused with 403.
--
-- Orthanc calls this after it has checked the password, decoded the path, resolved `..`, backslashes and
-- empty segments in it, and applied `?_method=` and X-HTTP-Method-Override: method and uri are what it then
-- acts on (measured, Orthanc 1.10.1 and 1.12.7; the same in the source of 1.13.0). HEAD and OPTIONS come as
-- GET, MKCOL and PROPPATCH as PUT. The query is not seen here.
-- Runs with ExecuteLuaEnabled false. Written for Lua 5.1 to 5.4. An error in this file, or its absence, keeps
-- Orthanc from starting; an error while it judges a request refuses that one (measured).

-- A variable that is not set would leave its user with an empty password.
for _, user in ipairs({ 'IMPORTER', 'GATEWAY', 'ADMIN', 'MONITOR' }) do
  local name = 'ARCHIVE_' .. user .. '_PASSWORD'
  assert((os.getenv(name) or '') ~= '', name .. ' is not set')
end

local READ_ROOTS = { '/dicom-web/studies', '/dicom-web/series', '/dicom-web/instances' }

local function below(uri, root)
  return uri == root or string.sub(uri, 1, #root + 1) == root .. '/'
end

-- QIDO-RS and WADO-RS; not /dicom-web/servers, /dicom-web/app and the like.
local function reads_dicomweb(method, uri)
  if method ~= 'GET' or not string.match(uri, '^[%w%-%.,/]+$') then
    return false
  end
  for _, root in ipairs(READ_ROOTS) do
    if below(uri, root) then
      return true
    end
  end
  return false
end

local function stores_dicomweb(method, uri)
  return method == 'POST'
    and (uri == '/dicom-web/studies' or string.match(uri, '^/dicom%-web/studies/[0-9%.]+$') ~= nil)
end

-- The administrators' user. New images come in through the importer alone, whose reservation keeps clinics
-- and patients apart: no upload, no merging, splitting or modifying. The server stays up, set as it was
-- started, silent about patients in its log (no /tools/log-level) and speaks to no other server.
local LEVELS = { patients = true, studies = true, series = true, instances = true }
local ACTIONS = { archive = true, media = true, reconstruct = true }
local ATTRIBUTES = { attachments = true, labels = true, metadata = true, protected = true }
local JOB_ACTIONS = { cancel = true, pause = true, resubmit = true, resume = true }
local TOOLS = {
  ['bulk-content'] = true, ['bulk-delete'] = true, ['count-resources'] = true,
  ['create-archive'] = true, ['create-media'] = true, ['create-media-extended'] = true, ['find'] = true,
  ['lookup'] = true, ['reconstruct'] = true,
}

local function administers(method, uri)
  if method == 'GET' then
    return true
  end
  local segments = {}
  for segment in string.gmatch(uri, '[^/]+') do
    segments[#segments + 1] = segment
  end
  local level, id, action = segments[1], segments[2], segments[3]
  if method == 'DELETE' then
    return LEVELS[level] == true and id ~= nil and (action == nil or ATTRIBUTES[action] == true)
  elseif method == 'PUT' then
    return LEVELS[level] == true and ATTRIBUTES[action] == true
  elseif method == 'POST' and level == 'tools' then
    return TOOLS[id] == true and action == nil
  elseif method == 'POST' and level == 'jobs' then
    return JOB_ACTIONS[action] == true and #segments == 3
  elseif method == 'POST' then
    return LEVELS[level] == true and ACTIONS[action] == true and #segments == 3
  end
  return false
end

-- `clinicpacs reindex` lists all studies by Orthanc's own address: what QIDO-RS tells anyway, but page after page
-- at the same cost, where QIDO's offset makes each page dearer than the one before (measured).
local function lists(method, uri)
  return method == 'GET' and (uri == '/system' or uri == '/studies')
end

local ALLOWED = {
  gateway = reads_dicomweb,
  importer = function(method, uri)
    return reads_dicomweb(method, uri) or stores_dicomweb(method, uri) or lists(method, uri)
  end,
  monitor = function(method, uri)
    return method == 'GET' and (uri == '/tools/metrics-prometheus' or uri == '/system')
  end,
  admin = administers,
}

function IncomingHttpRequestFilter(method, uri, ip, username, httpHeaders)
  local allowed = ALLOWED[username]
  return allowed ~= nil and allowed(method, uri) == true
end
