// The viewer's configuration, in the demo and in production: every address is derived from where the page
// itself comes from, so there is nothing to fill in. Written for @ohif/app 3.13.

(function () {
  var origin = window.location.origin;
  var dicomWeb = origin + '/dicom-web';

  // Access tokens live half a minute and are renewed in the background. If that failed (the laptop slept, the
  // session ended), loading the page anew asks the issuer again and comes back to the same study. Not more
  // than once a minute: a gateway that refuses every token must not become a loop.
  function renewSession() {
    var last = Number(window.sessionStorage.getItem('clinicpacs-reloaded')) || 0;
    if (Date.now() - last > 60000) {
      window.sessionStorage.setItem('clinicpacs-reloaded', String(Date.now()));
      window.location.reload();
    }
  }

  // The mark and the name instead of OHIF's logo. No file is loaded for it.
  function logo(React) {
    var h = React.createElement;
    return h(
      'span',
      { style: { display: 'flex', alignItems: 'center', gap: '10px' }, 'aria-label': 'clinicpacs' },
      h(
        'svg',
        { width: 26, height: 26, viewBox: '0 0 36 36', fill: 'none', 'aria-hidden': true },
        h('rect', { width: 36, height: 36, rx: 9, fill: '#0b2f4f' }),
        h('path', { d: 'M18 6.5 27.5 11.8 18 17 8.5 11.8Z', fill: '#5ec8f2' }),
        ['m8.5 17.8 9.5 5.2 9.5-5.2', 'm8.5 23.6 9.5 5.2 9.5-5.2'].map(function (d, i) {
          return h('path', {
            key: d,
            d: d,
            stroke: '#5ec8f2',
            strokeWidth: 2.4,
            strokeLinejoin: 'round',
            strokeLinecap: 'round',
            opacity: i ? 0.45 : 0.75,
          });
        })
      ),
      h('span', { style: { color: '#fff', fontSize: '16px', fontWeight: 600 } }, 'clinicpacs')
    );
  }

  // The gateway filters by what is typed: without regard to accents, by every way of writing a name, with wildcards.
  // OHIF would do it again by the very letters that the list shows, and hide studies that were found.
  var TYPED = ['patient', 'mrn', 'description', 'accession'];

  function found() {
    return true;
  }

  // A patient is told from others by name and id. OHIF gives the id up first, on most screens: columns take their
  // least width in the order of their priority, and the description is content with less.
  var ROOM = {
    mrn: { priority: 95 },
    description: { minWidth: 195, headerClassName: 'min-w-[195px]', cellClassName: 'min-w-[195px]' },
  };

  function listColumns(columns) {
    return columns.map(function (column) {
      return Object.assign({}, column, TYPED.indexOf(column.id) >= 0 ? { filterFn: found } : {}, {
        meta: Object.assign({}, column.meta, ROOM[column.id]),
      });
    });
  }

  window.config = {
    name: 'clinicpacs',
    routerBasename: '/',
    extensions: [],
    modes: [],
    customizationService: [
      {
        // The tour covers the first study that a physician opens on every new workstation.
        'ohif.tours': { $set: [] },
        'workList.columns': { $apply: listColumns },
      },
    ],
    // No customizationUrlPrefixes and no dangerouslyUseDynamicConfig: nothing is configured by the address.
    showStudyList: true,
    whiteLabeling: { createLogoComponentFn: logo },
    // OHIF is not cleared as a medical device: every workstation is told, and again after 90 days.
    investigationalUseDialog: { option: 'configure', days: 90 },
    maxNumberOfWebWorkers: 3,
    maxNumRequests: { interaction: 20, thumbnail: 5, prefetch: 10 },
    showWarningMessageForCrossOrigin: true,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    allowMultiSelectExport: false,
    // Stack traces hold patients' data and help no physician; the console has them.
    showErrorDetails: 'dev',
    studyPrefetcher: { enabled: false },

    oidc: [
      {
        authority: origin + '/auth/realms/clinicpacs',
        client_id: 'ohif-viewer',
        response_type: 'code', // OHIF then uses oidc-client-ts, always with PKCE (S256)
        scope: 'openid',
        redirect_uri: '/callback',
        // Only the way back from an address /logout without a page to return to. It must be no page of OHIF:
        // its sign-out component takes over the route of this path, and breaks the study list if that is `/`.
        post_logout_redirect_uri: '/signed-out.html',
        automaticSilentRenew: true, // by refresh token: no iframe, no third page
        // In time for tokens of half a minute. Longer than they live, and they would be renewed without a pause.
        accessTokenExpiringNotificationTimeInSeconds: 15,
        monitorSession: false,
        loadUserInfo: false,
        // Ending the session ends its refresh tokens; there is nothing left to revoke.
        revokeAccessTokenOnSignout: false,
      },
    ],

    // One source. `dicomjson` and `dicomwebproxy` would load any address that a link names.
    defaultDataSourceName: 'dicomweb',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'dicomweb',
        configuration: {
          friendlyName: 'clinicpacs',
          name: 'clinicpacs',
          qidoRoot: dicomWeb,
          wadoRoot: dicomWeb,
          wadoUriRoot: dicomWeb, // required by OHIF, used by nothing: the gateway has no WADO-URI
          imageRendering: 'wadors',
          // Fetched with the access token. `thumbnailDirect` would send none.
          thumbnailRendering: 'rendered',
          thumbnailRequestStrategy: 'fetch',
          enableStudyLazyLoad: true,
          // All that can be paged to: OHIF asks once, and pages in the browser. QIDO_MAX_RESULTS' default; 101 without.
          queryLimit: 1000,
          supportsFuzzyMatching: true,
          supportsWildcard: true,
          supportsReject: false,
          dicomUploadEnabled: false,
          staticWado: false,
          // Nothing as a plain link: what a link loads carries no access token. A PDF is fetched; for a video OHIF
          // 3.13 puts the promise of that into its page, and plays none.
          singlepart: '',
          bulkDataURI: { enabled: true, relativeResolution: 'studies' },
          omitQuotationForMultipartRequest: true,
        },
      },
    ],

    httpErrorHandler: function (error) {
      if (error && error.status === 401) {
        renewSession();
      }
      // What is another clinic's is a 404. This is a user of no clinic, whom OHIF would show an error of a data source.
      if (error && error.status === 403) {
        window.location.replace('/no-access.html');
      }
    },
  };
})();
